/**
 * What a read gives when the register cannot be reached inside the chip. nvgpu names the codes
 * (common/priv_ring/priv_ring_gp10b.c): no such register, an engine that is off, a ring that was not started.
 */
export const PRI_DECODE_ERROR = 0xbadf1100;
export const PRI_CLIENT_IN_RESET = 0xbadf1200;
export const PRI_RING_DEAD = 0xbadf3000;
/** What the {@link PeerWindow} of linkfence's own gives where no link leads to memory: one of the same range. */
export const PRI_PEER_LINK_DOWN = 0xbadf5040;

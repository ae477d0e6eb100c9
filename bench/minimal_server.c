/*
 * The least that serves a vfio-user device in C: the yardstick of bench/vfio_user.ts.
 *
 *   minimal_server SOCKET SPIN
 *
 * One client at a time, region 0 of 4 KiB and region 2 of 1 MiB, VERSION, REGION_READ and REGION_WRITE; everything else
 * is answered with ENOTSUP. As in any server that takes descriptors, the header comes by recvmsg with room for them.
 * SPIN: microseconds of asking again before it sleeps; 0 blocks in recvmsg.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, REGION_READ = 9, REGION_WRITE = 10 };
enum { FLAG_REPLY = 1, FLAG_NO_REPLY = 0x10, FLAG_ERROR = 0x20 };
enum { MAX_DATA = 1 << 20 };

struct header {
    uint16_t id, command;
    uint32_t size, flags, error;
};
struct access {
    uint64_t offset;
    uint32_t region, count;
};
struct message {
    struct header header;
    struct access access;
    uint8_t data[MAX_DATA];
};

static const char CAPABILITIES[] = "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}";

static struct message request, reply;
static uint8_t registers[4096], memory[MAX_DATA];

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Receives a header and drops descriptors that come with it. */
static ssize_t receive_header(int socket, int flags) {
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(16 * sizeof(int))];
    } control;
    struct iovec vector = {&request.header, sizeof request.header};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t count = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    for (struct cmsghdr *part = count < 0 ? NULL : CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        for (size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int))
            close(*(int *)(CMSG_DATA(part) + at));
    }
    return count;
}

static ssize_t receive_spinning(int socket, int64_t spin) {
    for (int64_t until = now() + spin; now() < until;) {
        ssize_t count = receive_header(socket, MSG_DONTWAIT);
        if (count >= 0 || errno != EAGAIN) return count;
    }
    return receive_header(socket, MSG_WAITALL);
}

static uint8_t *region(const struct access *access) {
    if (access->count > MAX_DATA) return NULL;
    uint64_t size = access->region == 0 ? sizeof registers : access->region == 2 ? sizeof memory : 0;
    if (access->count > size || access->offset > size - access->count) return NULL;
    return (access->region == 0 ? registers : memory) + access->offset;
}

/* Fills in the reply and returns its size. */
static size_t answer(void) {
    const struct header *header = &request.header;
    size_t size = sizeof *header;
    reply.header = (struct header){header->id, header->command, 0, FLAG_REPLY, 0};
    if (header->command == VERSION) {
        memset(&reply.access, 0, 4);
        memcpy((char *)&reply.access + 4, CAPABILITIES, sizeof CAPABILITIES);
        size += 4 + sizeof CAPABILITIES;
    } else if (header->command == REGION_READ || header->command == REGION_WRITE) {
        uint8_t *bytes = region(&request.access);
        size_t data = header->command == REGION_WRITE ? request.access.count : 0;
        if (bytes != NULL && header->size == sizeof *header + sizeof request.access + data) {
            reply.access = request.access;
            size += sizeof reply.access;
            if (header->command == REGION_READ) {
                memcpy(reply.data, bytes, request.access.count);
                size += request.access.count;
            } else {
                memcpy(bytes, request.data, data);
            }
        }
    }
    if (size == sizeof *header) {
        reply.header.flags |= FLAG_ERROR;
        reply.header.error = ENOTSUP;
    }
    reply.header.size = size;
    return size;
}

static void serve(int socket, int64_t spin) {
    for (;;) {
        ssize_t count = spin > 0 ? receive_spinning(socket, spin) : receive_header(socket, MSG_WAITALL);
        if (count != sizeof request.header) return;
        size_t left = request.header.size - sizeof request.header;
        if (request.header.size < sizeof request.header || left > sizeof request - sizeof request.header) return;
        if (left > 0 && recv(socket, &request.access, left, MSG_WAITALL) != (ssize_t)left) return;
        size_t size = answer();
        if (request.header.flags & FLAG_NO_REPLY) continue;
        if (send(socket, &reply, size, MSG_NOSIGNAL) != (ssize_t)size) return;
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", arguments[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0) {
        perror(arguments[1]);
        return 1;
    }
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) return 1;
        serve(client, atoi(arguments[2]) * 1000LL);
        close(client);
    }
}

/*
 * Drives vfio-user servers and measures them: the one client of all comparisons in bench/vfio_user.ts.
 *
 *   latency_client read     BLOCKS COUNT SOCKET...   4-byte REGION_READ of region 0
 *   latency_client register BLOCKS COUNT SOCKET...   the same, with memory decoding switched on in config space before
 *   latency_client write    BLOCKS COUNT SOCKET...   1 MiB REGION_WRITE to region 2
 *
 * `register` takes fd:NUMBER:OFFSET for a socket, too: 4 bytes at an offset of an open file, by pread.
 *
 * BLOCKS times, COUNT accesses to each server in turn, so that whatever disturbs the machine disturbs all alike. Prints
 * for each socket a line: p50, p99, mean and maximum, in nanoseconds, of all its accesses but those of the first tenth
 * of the blocks, which warm up.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, REGION_READ = 9, REGION_WRITE = 10 };
enum { MAX_DATA = 1 << 20 };

struct message {
    uint16_t id, command;
    uint32_t size, flags, error;
    uint64_t offset;
    uint32_t region, count;
    uint8_t data[MAX_DATA];
};
enum { HEADER = 16, ACCESS = 32 };

static struct message request, reply;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void send_all(int socket, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send(socket, (char *)&request + sent, size - sent, MSG_NOSIGNAL);
        if (count <= 0) fail("send");
        sent += count;
    }
}

static void exchange(int socket, size_t size) {
    request.size = size;
    request.id++;
    send_all(socket, size);
    ssize_t count = recv(socket, &reply, sizeof reply, 0);
    if (count < HEADER || (uint32_t)count != reply.size || reply.id != request.id || reply.flags != 1) fail("reply");
}

/* A file that is read itself, and no server: -1 for a socket's path. */
static int file_of(const char *argument, off_t *offset) {
    int file = -1;
    long long at = 0;
    if (sscanf(argument, "fd:%d:%lld", &file, &at) != 2) return -1;
    *offset = at;
    return file;
}

static void read_file(int file, off_t offset) {
    if (pread(file, reply.data, 4, offset) != 4) fail("pread");
}

static int connect_to(const char *path) {
    static const char capabilities[] = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(socket_fd, (struct sockaddr *)&address, sizeof address) < 0) fail(path);
    request.command = VERSION;
    memset(&request.offset, 0, 4);
    memcpy((char *)&request.offset + 4, capabilities, sizeof capabilities);
    exchange(socket_fd, HEADER + 4 + sizeof capabilities);
    return socket_fd;
}

/* Sets Memory Space Enable of the command register, in config space, which is region 7. */
static void decode_memory(int socket_fd) {
    request.command = REGION_WRITE;
    request.offset = 4;
    request.region = 7;
    request.count = 2;
    request.data[0] = 2;
    request.data[1] = 0;
    exchange(socket_fd, ACCESS + 2);
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void report(int64_t *times, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += times[i];
    qsort(times, count, sizeof *times, compare);
    long long p50 = times[count / 2], p99 = times[count * 99 / 100], longest = times[count - 1];
    printf("%lld %lld %.0f %lld\n", p50, p99, sum / count, longest);
}

int main(int count, char **arguments) {
    if (count < 5) return 2;
    int writing = strcmp(arguments[1], "write") == 0;
    size_t blocks = atol(arguments[2]), each = atol(arguments[3]), servers = count - 4;
    int sockets[servers], files[servers];
    off_t offsets[servers];
    int64_t *times[servers];
    for (size_t i = 0; i < servers; i++) {
        files[i] = file_of(arguments[4 + i], &offsets[i]);
        if (files[i] < 0) sockets[i] = connect_to(arguments[4 + i]);
        if (files[i] < 0 && strcmp(arguments[1], "register") == 0) decode_memory(sockets[i]);
        times[i] = calloc(blocks * each, sizeof(int64_t));
    }
    request.command = writing ? REGION_WRITE : REGION_READ;
    request.offset = 0;
    request.region = writing ? 2 : 0;
    request.count = writing ? MAX_DATA : 4;
    size_t size = ACCESS + (writing ? MAX_DATA : 0);
    for (size_t block = 0; block < blocks; block++)
        for (size_t i = 0; i < servers; i++)
            for (size_t n = 0; n < each; n++) {
                int64_t start = now();
                if (files[i] < 0) exchange(sockets[i], size);
                else read_file(files[i], offsets[i]);
                times[i][block * each + n] = now() - start;
            }
    size_t skipped = blocks / 10 * each;
    for (size_t i = 0; i < servers; i++) report(times[i] + skipped, blocks * each - skipped);
    return 0;
}

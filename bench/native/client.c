/* The floor: what the same requests cost a client in C that does nothing but move the bytes.
 *
 * client HOST PORT FILE CONNECTIONS REQUESTS [--rate QPS [--poisson]] [--drain-ms MS]
 *
 * FILE holds whole HTTP requests, each behind its length as a little-endian uint32, as the harness
 * would send them; they are sent in turn. Closed loop on CONNECTIONS kept-alive connections, or, with
 * --rate, at absolute instants (a request that finds no free connection waits for one). An answer
 * ends by its content-length or by the zero chunk; events are counted by "data:". With --drain-ms a
 * stream is left alone after its first bytes and read every MS milliseconds instead.
 * Prints one line of JSON; CPU time is user and system time of the whole process.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct request { const char *bytes; size_t n; };

struct connection {
    int fd;
    const char *rest; /* of a request that the socket has not taken yet */
    size_t rest_n;
    int64_t left;     /* bytes of a body still to come; -1: a head is awaited; -2: chunked */
    char tail[5];     /* the last bytes of a stream, where its end is looked for */
    struct connection *next_free, *next_drained;
    bool drained, writing;
};

static struct request *requests;
static size_t n_requests;
static struct connection *free_list, *drained_list;
static int poller;
static long wanted, sent, answered, events;
static double drain_ms;
static char buffer[1 << 20];

static void fail(const char *what) {
    fprintf(stderr, "client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void watch(struct connection *c, int action, uint32_t mask) {
    struct epoll_event event = {.events = mask, .data.ptr = c};
    if (epoll_ctl(poller, action, c->fd, &event)) fail("epoll_ctl");
}

static void push_bytes(struct connection *c) {
    ssize_t n = send(c->fd, c->rest, c->rest_n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) fail("send");
    if (n > 0) c->rest += n, c->rest_n -= (size_t)n;
    bool writing = c->rest_n > 0;
    if (writing != c->writing) watch(c, EPOLL_CTL_MOD, writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
    c->writing = writing;
}

static void start(struct connection *c) {
    const struct request *request = &requests[(size_t)sent++ % n_requests];
    c->rest = request->bytes, c->rest_n = request->n, c->left = -1;
    push_bytes(c);
}

static long count(const char *bytes, size_t n) { /* of "data:" */
    long found = 0;
    const char *last = bytes + n;
    while ((bytes = memmem(bytes, (size_t)(last - bytes), "data:", 5))) found++, bytes += 5;
    return found;
}

static bool is_last(struct connection *c, const char *bytes, size_t n) { /* whether they end it */
    if (c->left == -1) {
        char *body = memmem(bytes, n, "\r\n\r\n", 4), *length;
        if (!body || memcmp(bytes, "HTTP/1.1 200", 12)) fail("not an answer with its whole head");
        length = memmem(bytes, (size_t)(body - bytes), "content-length: ", 16);
        c->left = length ? atoll(length + 16) : -2;
        n -= (size_t)(body + 4 - bytes), bytes = body + 4;
        memset(c->tail, 0, 5);
    }
    if (c->left >= 0) return (c->left -= (int64_t)n) == 0;
    events += count(bytes, n);
    size_t keep = n < 5 ? n : 5;
    memmove(c->tail, c->tail + keep, 5 - keep);
    memcpy(c->tail + 5 - keep, bytes + n - keep, keep);
    return !memcmp(c->tail, "0\r\n\r\n", 5);
}

static bool receive(struct connection *c) { /* whether the answer has ended */
    ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return false;
    if (n <= 0) fail("the connection ended");
    bool had_head = c->left != -1;
    if (!is_last(c, buffer, (size_t)n)) {
        if (drain_ms > 0 && had_head && c->left == -2 && !c->drained) {
            watch(c, EPOLL_CTL_DEL, 0);
            c->drained = true;
            c->next_drained = drained_list;
            drained_list = c;
        }
        return false;
    }
    answered++;
    if (c->drained) watch(c, EPOLL_CTL_ADD, EPOLLIN);
    c->drained = false;
    return true;
}

static void idle(struct connection *c, bool paced) {
    if (!paced && sent < wanted) start(c);
    else c->next_free = free_list, free_list = c;
}

static void drain(bool paced) {
    struct connection **at = &drained_list, *c;
    while ((c = *at)) {
        if (!receive(c)) at = &c->next_drained;
        else *at = c->next_drained, idle(c, paced);
    }
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    char *bytes = malloc(size);
    rewind(file);
    if (!bytes || fread(bytes, 1, size, file) != size) fail(path);
    requests = malloc((size / 4 + 1) * sizeof *requests);
    for (size_t at = 0; at + 4 <= size; at += requests[n_requests++].n) {
        uint32_t n;
        memcpy(&n, bytes + at, 4);
        requests[n_requests] = (struct request){bytes + (at += 4), n};
    }
}

int main(int argc, char **argv) {
    if (argc < 6) return fputs("usage: see the source\n", stderr), 2;
    double rate = 0;
    bool poisson = false;
    for (int i = 6; i < argc; i++) {
        if (!strcmp(argv[i], "--poisson")) poisson = true;
        else if (!strcmp(argv[i], "--rate") && i + 1 < argc) rate = atof(argv[++i]);
        else if (!strcmp(argv[i], "--drain-ms") && i + 1 < argc) drain_ms = atof(argv[++i]);
        else return fprintf(stderr, "client: %s: unknown\n", argv[i]), 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) fail(argv[1]);
    load(argv[3]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    prctl(PR_SET_TIMERSLACK, 1);
    poller = epoll_create1(0);
    int on = 1;
    for (int i = atoi(argv[4]); i > 0; i--) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c || (c->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) fail("socket");
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
        c->next_free = free_list, free_list = c;
    }
    wanted = atol(argv[5]);
    srand48(1);
    int64_t began = now_ns(), due = began, next_drain = began;
    struct epoll_event ready[256];
    while (answered < wanted) {
        int64_t now = now_ns(), wait = INT64_C(1000000000);
        while (free_list && sent < wanted && (rate == 0 || due <= now)) {
            struct connection *c = free_list;
            free_list = c->next_free;
            start(c);
            if (rate > 0) due += (int64_t)((poisson ? -log(1 - drand48()) : 1) / rate * 1e9);
        }
        if (rate > 0 && free_list && sent < wanted && due - now < wait) wait = due - now;
        if (drained_list && now >= next_drain) {
            drain(rate > 0);
            next_drain = now + (int64_t)(drain_ms * 1e6);
        }
        if (drained_list && next_drain - now < wait) wait = next_drain - now;
        struct timespec timeout = {0, wait > 0 ? wait : 0};
        if (wait >= 1000000000) timeout = (struct timespec){1, 0};
        int n = epoll_pwait2(poller, ready, 256, &timeout, NULL);
        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT) push_bytes(c);
            if (ready[i].events & ~(uint32_t)EPOLLOUT && receive(c)) idle(c, rate > 0);
        }
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"cpu_s\":%.6f,\"requests\":%ld,\"events\":%ld,\"wall_s\":%.6f}\n", cpu_s, answered, events,
           (double)(now_ns() - began) / 1e9);
    return 0;
}

/* The nouns: the command line's options, an answer and the truth about it, a connection, a replica. */
#pragma once
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 1 << 20, MAX_HEAD = 65536, MAX_BODY = 1 << 30, PADDING = 8, HEAD_ROOM = 256, BATCH = 512, BACKLOG = 8192 };
enum dialect { VLLM, SGLANG };
#define VLLM_VERSION "0.32.0+clock"
#define SGLANG_VERSION "0.5.21+clock"
#define STREAM_HEAD "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n" \
                    "transfer-encoding: chunked\r\n\r\n"
#define STREAM_END "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

static struct {
    const char *host, *port, *name, *truth_file;
    bool serves[2], incremental, until_stdin_closes;
    int64_t ttft_ns, itl_ns, keep_alive_ns, chunk, osl, max_running, context, vocab, replicas;
} options = {.host = "127.0.0.1", .port = "0", .name = "clock", .serves = {true, true},
             .keep_alive_ns = 5000000000, .chunk = 1, .max_running = INT64_MAX,
             .context = 131072, .vocab = 201088, .replicas = 1};

enum { STOP, LENGTH, ABORT, ERROR, REFUSED, DISCONNECTED, N_FINISHES, UNFINISHED = N_FINISHES };
static const char *const FINISHES[] = {"stop", "length", "abort", "error", "refused",
                                       "disconnected"};
static const char *const PATHS[] = {"/v1/completions", "/generate"};

struct truth { /* engine/answer.py's Truth, in its order */
    int64_t number, arrived_ns, prompt_tokens, prompt_sum, first_ns, done_ns, n_tokens, n_events;
    uint8_t dialect, finish;
};

struct answer {
    struct connection *connection; /* NULL: over, and freed when its turn in the heap comes */
    struct replica *replica;
    struct answer *before, *after; /* in the replica's list of running or waiting answers */
    struct truth truth;            /* kept here until it ends: /truth/reset may come between */
    int64_t epoch, slot;           /* where the log has its entry */
    int64_t first_due_ns, created_s, max_tokens, n, upto;
    uint32_t id, step; /* the next token's id, and from one to the next */
    bool stream, with_ids, with_usage, running, in_heap, ignore_eos;
    char *name, *prompt, *so_far; /* the client's id; ids as JSON: of the prompt, of all events */
    size_t prompt_bytes, so_far_bytes, so_far_room;
};

enum kind { LISTENER, CONNECTION, STDIN, SIGNALS }; /* the first field of all that epoll knows */

struct connection {
    enum kind kind;
    int fd; /* -1: closed, and freed after the batch of events in which it may still be */
    struct replica *replica;
    struct answer *answer;
    struct connection *idle_before, *idle_after, *next_dead;
    int64_t idle_until_ns;                  /* 0: not idle */
    char *in, *out;                         /* half a request; what the socket did not take */
    size_t in_bytes, in_room, head_bytes, body_bytes, out_start, out_bytes, out_room;
    bool persistent, closing;
};

struct replica {
    enum kind kind;
    int fd;
    char url[300];
    struct answer running, waiting; /* heads of rings */
    int64_t n_running, n_waiting, n_requests, prompt_tokens, generated_tokens, ends[N_FINISHES + 1];
    bool admitting;
    struct truth *log;
    int64_t n_log, log_room, epoch;
};

static int poller;
static struct replica *replicas;
static struct connection idle = {.idle_before = &idle, .idle_after = &idle}, *dead;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

__attribute__((noreturn, format(printf, 2, 3))) static void quit(int code, const char *form, ...) {
    va_list values;
    va_start(values, form);
    fputs("emulator: ", stderr);
    vfprintf(stderr, form, values);
    fputc('\n', stderr);
    exit(code);
}

static void *grown(void *old, size_t *room, size_t needed, size_t size) {
    if (needed <= *room) return old;
    *room = needed + needed / 2 + 16;
    void *new = realloc(old, *room * size);
    if (!new) quit(1, "out of memory");
    return new;
}

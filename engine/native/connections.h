/* Connections: bytes to the socket at once, what it does not take kept; idle ones are closed. */
#pragma once
#include "text.h"

static void watch(int action, int fd, void *what, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    if (epoll_ctl(poller, action, fd, &event)) quit(1, "epoll_ctl: %s", strerror(errno));
}

static void send_bytes(struct connection *c, const char *bytes, size_t n) {
    if (c->fd < 0 || c->closing) return;
    if (!c->out_bytes) {
        ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)n) return;
        if (sent < 0 && errno != EAGAIN) {
            shutdown(c->fd, SHUT_RDWR); /* epoll tells of it, when nobody holds its answer */
            return;
        }
        if (sent > 0) bytes += sent, n -= (size_t)sent;
        watch(EPOLL_CTL_MOD, c->fd, c, EPOLLIN | EPOLLOUT);
    }
    c->out = grown(c->out, &c->out_room, c->out_start + c->out_bytes + n, 1);
    memcpy(c->out + c->out_start + c->out_bytes, bytes, n);
    c->out_bytes += n;
}

static void send_text(struct connection *c) { send_bytes(c, text, (size_t)(end - text)); }

static void not_idle(struct connection *c) {
    if (!c->idle_until_ns) return;
    c->idle_before->idle_after = c->idle_after;
    c->idle_after->idle_before = c->idle_before;
    c->idle_until_ns = 0;
}

static void leave(struct answer *a, int finish);

static void hang_up(struct connection *c) {
    if (c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
    not_idle(c);
    if (c->answer) leave(c->answer, DISCONNECTED);
    c->next_dead = dead;
    dead = c;
}

static void close_after_flush(struct connection *c) {
    if (!c->out_bytes) hang_up(c);
    c->closing = true;
}

static void flush_out(struct connection *c) {
    ssize_t sent = send(c->fd, c->out + c->out_start, c->out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        if (errno != EAGAIN) hang_up(c);
        return;
    }
    c->out_start += (size_t)sent, c->out_bytes -= (size_t)sent;
    if (c->out_bytes) return;
    free(c->out);
    c->out = NULL;
    c->out_start = c->out_room = 0;
    if (c->closing) hang_up(c);
    else watch(EPOLL_CTL_MOD, c->fd, c, EPOLLIN);
}

static void ready_for_next(struct connection *c) { /* the answer is out */
    c->answer = NULL;
    if (!c->persistent) return close_after_flush(c);
    if (!options.keep_alive_ns || c->fd < 0) return;
    c->idle_until_ns = now_ns() + options.keep_alive_ns; /* one limit for all: the ring is in order */
    c->idle_before = idle.idle_before, c->idle_after = &idle;
    idle.idle_before->idle_after = c;
    idle.idle_before = c;
}

static void send_response(struct connection *c, int status, const char *kind, const char *body) {
    const char *phrase = status == 200   ? "OK"
                         : status == 400 ? "Bad Request"
                         : status == 404 ? "Not Found"
                                         : "Internal Server Error";
    size_t n = strlen(body);
    begin_text(n + HEAD_ROOM);
    end += sprintf(end, "HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n", status,
                   phrase, kind, n);
    put(body, n);
    send_text(c);
}
#define JSON "application/json"
#define PLAIN "text/plain; charset=utf-8"

/* HTTP coming in: from bytes to a whole request. */
#pragma once
#include "pages.h"

static char arrivals[READ_SIZE + PADDING]; /* one read; most requests are whole and never copied */

static void invalid(struct connection *c) {
    send_response(c, 400, JSON, "{\"detail\":\"Invalid HTTP request received.\"}");
    close_after_flush(c);
}

static bool parse_head(struct connection *c, char *head) { /* what matters in it; false: invalid */
    char *version = memmem(head, c->head_bytes, " HTTP/1.", 8);
    if (!version || memchr(head, '\r', (size_t)(version - head))) return false;
    if (!memchr(head, ' ', (size_t)(version - head))) return false;
    c->persistent = version[8] == '1';
    c->body_bytes = 0;
    for (char *line = memchr(head, '\n', c->head_bytes) + 1; *line != '\r';
         line = (char *)memchr(line, '\n', (size_t)(head + c->head_bytes - line)) + 1)
        if (!strncasecmp(line, "content-length:", 15)) c->body_bytes = strtoull(line + 15, NULL, 10);
        else if (!strncasecmp(line, "connection:", 11))
            c->persistent &= strncasecmp(line + 11 + strspn(line + 11, " "), "close", 5) != 0;
        else if (!strncasecmp(line, "transfer-encoding:", 18)) return false; /* no client sends it */
    return c->body_bytes <= MAX_BODY;
}

static void handle_request(struct connection *c, char *request, int64_t arrived) {
    char *body = request + c->head_bytes, *url_end = request;
    body[c->body_bytes] = 0;
    url_end = strchr(strchr(request, ' ') + 1, ' ');
    char *query = memchr(request, '?', (size_t)(url_end - request));
    *(query ? query : url_end) = 0;
    for (int dialect = VLLM; dialect <= SGLANG; dialect++)
        if (options.serves[dialect] && !strncmp(request, "POST ", 5) &&
            !strcmp(request + 5, PATHS[dialect]))
            return generate(c, (enum dialect)dialect, body, arrived);
    serve_page(c, request, body);
}

/* Whether `bytes` are a whole request, which is then answered. */
static bool take_request(struct connection *c, char *bytes, size_t n, int64_t arrived) {
    if (!c->head_bytes) {
        char *found = memmem(bytes, n, "\r\n\r\n", 4);
        if (!found && n > MAX_HEAD) return invalid(c), true;
        if (!found) return false;
        c->head_bytes = (size_t)(found - bytes) + 4;
        if (!parse_head(c, bytes)) return invalid(c), true;
    }
    if (n < c->head_bytes + c->body_bytes) return false;
    if (n > c->head_bytes + c->body_bytes) invalid(c); /* pipelining: no client of engines does it */
    else handle_request(c, bytes, arrived);
    c->head_bytes = 0;
    return true;
}

static void receive(struct connection *c) {
    char *to = arrivals;
    size_t room = READ_SIZE;
    if (c->in_bytes) { /* a request has begun: its rest goes behind it */
        size_t whole = c->head_bytes + c->body_bytes;
        size_t needed = (whole > c->in_bytes ? whole : c->in_bytes + 4096) + PADDING;
        c->in = grown(c->in, &c->in_room, needed, 1);
        to = c->in + c->in_bytes, room = c->in_room - c->in_bytes - PADDING;
    }
    ssize_t n = recv(c->fd, to, room, MSG_DONTWAIT);
    int64_t arrived = now_ns();
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) hang_up(c);
        return;
    }
    not_idle(c);
    if (c->answer || c->closing) return invalid(c);
    char *bytes = c->in_bytes ? c->in : arrivals;
    size_t have = c->in_bytes + (size_t)n;
    if (take_request(c, bytes, have, arrived)) {
        free(c->in);
        c->in = NULL, c->in_bytes = c->in_room = 0;
    } else if (c->in_bytes) c->in_bytes = have;
    else {
        c->in = grown(c->in, &c->in_room, have + PADDING, 1);
        memcpy(c->in, arrivals, have);
        c->in_bytes = have;
    }
}

static void accept_all(struct replica *r) {
    int fd;
    while ((fd = accept4(r->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c) quit(1, "out of memory");
        c->kind = CONNECTION, c->fd = fd, c->replica = r;
        watch(EPOLL_CTL_ADD, fd, c, EPOLLIN);
    }
    if (errno == EMFILE || errno == ENFILE) quit(1, "too many connections: raise `ulimit -Hn`");
}

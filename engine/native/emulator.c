/* An emulated vLLM or SGLang that keeps time instead of thinking: `python -m engine clock`, compiled.
 *
 * Same bytes on the wire, same ids, same pages, same truth log; one thread, one epoll, and as many
 * replicas as are asked for, each a port of its own. It exists because a benchmark of the client is
 * worth nothing when the emulator is the slower of the two. The Python clock is the reference (its
 * files say why things are as they are) and has the faults, the prefix cache
 * and the development mode, which are refused here.
 *
 * Every event is a send() of its own, at its own instant of the stream's absolute grid: lateness
 * never adds up. Instants are CLOCK_MONOTONIC, taken just before the bytes go to the socket.
 */
#include "http.h"

static void listen_on(struct replica *r, int64_t index) {
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    char port[24], host[256];
    long first = strtol(options.port, NULL, 10);
    snprintf(port, sizeof port, "%ld", first ? first + (long)index : 0);
    int error = getaddrinfo(options.host, port, &hint, &found), on = 1;
    if (error) quit(1, "--host %s: %s", options.host, gai_strerror(error));
    r->kind = LISTENER;
    r->running.before = r->running.after = &r->running;
    r->waiting.before = r->waiting.after = &r->waiting;
    r->fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(r->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* inherited by what it accepts */
    if (bind(r->fd, found->ai_addr, found->ai_addrlen) || listen(r->fd, BACKLOG))
        quit(1, "%s port %s: %s", options.host, port,
             errno == EADDRINUSE ? "address already in use" : strerror(errno));
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    getsockname(r->fd, (struct sockaddr *)&bound, &size);
    getnameinfo((struct sockaddr *)&bound, size, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(r->url, sizeof r->url, "http://%s:%s", host, port);
    freeaddrinfo(found);
    watch(EPOLL_CTL_ADD, r->fd, r, EPOLLIN);
}

static void say_ready(void) {
    const bool *serves = options.serves;
    printf("{\"ready\":\"%s\",\"replicas\":[", replicas[0].url);
    for (int64_t i = 0; i < options.replicas; i++) printf("%s\"%s\"", i ? "," : "", replicas[i].url);
    printf("],\"dialects\":[%s%s%s],\"pid\":%d,\"card\":{\"model\":\"%s\",\"kind\":\"clock\","
           "\"context\":%" PRId64 ",\"vocab\":%" PRId64 ",\"stream_interval\":%" PRId64
           ",\"incremental\":%s,\"max_running\":", serves[VLLM] ? "\"vllm\"" : "",
           serves[VLLM] && serves[SGLANG] ? "," : "", serves[SGLANG] ? "\"sglang\"" : "", getpid(),
           options.name, options.context, options.vocab, options.chunk,
           options.incremental ? "true" : "false");
    if (options.max_running == INT64_MAX) printf("null");
    else printf("%" PRId64, options.max_running);
    printf(",\"prefix_cache\":false}}\n");
    fflush(stdout);
}

static void write_truth_file(void) {
    FILE *file = fopen(options.truth_file, "w");
    if (!file) quit(1, "--truth %s: %s", options.truth_file, strerror(errno));
    for (int64_t i = 0; i < options.replicas; i++)
        for (int64_t j = 0; j < replicas[i].n_log; j++) {
            begin_text(0);
            put_truth(&replicas[i].log[j]);
            fprintf(file, "%.*s\n", (int)(end - text), text);
        }
    fclose(file);
}

static double limited(const char *flag, const char *value, double least) {
    char *after;
    double found = strtod(value, &after);
    if (*after || after == value || !(found >= least) || found > 1e15)
        quit(2, "--%s %s: must be a number of at least %g", flag, value, least);
    return found;
}

static void parse_options(int argc, char **argv) {
    enum { HOST, PORT, DIALECT, NAME, INCREMENTAL, KEEP_ALIVE, UNTIL, TRUTH, TTFT, ITL, CHUNK, OSL,
           RUNNING, CONTEXT, VOCABULARY, REPLICAS, FAULT, SPLIT, PING,
           PREFIX_CACHE, DEV_MODE };
    static const struct option known[] = {
        {"host", 1, 0, HOST}, {"port", 1, 0, PORT}, {"dialect", 1, 0, DIALECT},
        {"served-name", 1, 0, NAME}, {"incremental", 0, 0, INCREMENTAL},
        {"keep-alive", 1, 0, KEEP_ALIVE}, {"until-stdin-closes", 0, 0, UNTIL}, {"truth", 1, 0, TRUTH},
        {"ttft-ms", 1, 0, TTFT}, {"itl-ms", 1, 0, ITL}, {"chunk", 1, 0, CHUNK}, {"osl", 1, 0, OSL},
        {"max-running", 1, 0, RUNNING}, {"context", 1, 0, CONTEXT}, {"vocab", 1, 0, VOCABULARY},
        {"replicas", 1, 0, REPLICAS}, {"fault", 1, 0, FAULT}, {"split", 1, 0, SPLIT},
        {"ping", 0, 0, PING}, {"prefix-cache", 0, 0, PREFIX_CACHE}, {"dev-mode", 0, 0, DEV_MODE}, {0}};
    for (int flag, index; (flag = getopt_long(argc, argv, "", known, &index)) != -1;) {
        if (flag == '?') exit(2);
        const char *name = known[index].name;
        switch (flag) {
        case HOST: options.host = optarg; break;
        case PORT: limited(name, optarg, 0), options.port = optarg; break;
        case NAME: options.name = optarg; break;
        case INCREMENTAL: options.incremental = true; break;
        case UNTIL: options.until_stdin_closes = true; break;
        case TRUTH: options.truth_file = optarg; break;
        case KEEP_ALIVE: options.keep_alive_ns = llround(limited(name, optarg, 0) * 1e9); break;
        case TTFT: options.ttft_ns = llround(limited(name, optarg, 0) * 1e6); break;
        case ITL: options.itl_ns = llround(limited(name, optarg, 0) * 1e6); break;
        case CHUNK: options.chunk = (int64_t)limited(name, optarg, 1); break;
        case OSL: options.osl = (int64_t)limited(name, optarg, 1); break;
        case RUNNING: options.max_running = (int64_t)limited(name, optarg, 1); break;
        case CONTEXT: options.context = (int64_t)limited(name, optarg, 1); break;
        case VOCABULARY: options.vocab = (int64_t)limited(name, optarg, 1); break;
        case REPLICAS: options.replicas = (int64_t)limited(name, optarg, 1); break;
        case DIALECT:
            options.serves[VLLM] = strcmp(optarg, "sglang") != 0;
            options.serves[SGLANG] = strcmp(optarg, "vllm") != 0;
            if (options.serves[VLLM] && options.serves[SGLANG] && strcmp(optarg, "both"))
                quit(2, "--dialect %s: must be vllm, sglang or both", optarg);
            break;
        default: quit(2, "--%s is only in `python -m engine clock`", name);
        }
    }
    if (optind < argc) quit(2, "%s: not a flag", argv[optind]);
    if (options.vocab > INT32_MAX / 2) quit(2, "--vocab: at most %d", INT32_MAX / 2);
    if (strlen(options.name) > 200 || strpbrk(options.name, "\"\\\n"))
        quit(2, "--served-name: at most 200 characters, without quotes and backslashes");
}

static struct timespec until(int64_t now) { /* the next instant at which something is to be done */
    int64_t next = now + INT64_C(3600) * 1000000000;
    if (heap_n && heap[0].key_ns < next) next = heap[0].key_ns;
    if (idle.idle_after != &idle && idle.idle_after->idle_until_ns < next)
        next = idle.idle_after->idle_until_ns;
    int64_t wait = next > now ? next - now : 0;
    return (struct timespec){wait / 1000000000, wait % 1000000000};
}

static bool handle(struct epoll_event *event) { /* false: it is time to end */
    char ignored[4096];
    enum kind *kind = event->data.ptr;
    struct connection *c = event->data.ptr;
    switch (*kind) {
    case SIGNALS: return false;
    case STDIN: return read(0, ignored, sizeof ignored) > 0;
    case LISTENER: accept_all(event->data.ptr); return true;
    case CONNECTION: break;
    }
    if (c->fd >= 0 && event->events & EPOLLOUT) flush_out(c);
    if (c->fd >= 0 && event->events & ~(uint32_t)EPOLLOUT) receive(c);
    return true;
}

static void bury(void) {
    for (struct connection *c; (c = dead);) {
        dead = c->next_dead;
        free(c->in), free(c->out), free(c);
    }
}

static void serve(void) {
    struct epoll_event events[BATCH];
    for (bool more = true; more;) {
        int64_t now = now_ns();
        run_due(now);
        while (idle.idle_after != &idle && idle.idle_after->idle_until_ns <= now)
            hang_up(idle.idle_after);
        bury();
        struct timespec wait = until(now_ns());
        int n = epoll_pwait2(poller, events, BATCH, &wait, NULL);
        if (n < 0 && errno != EINTR) quit(1, "epoll_pwait2: %s", strerror(errno));
        for (int i = 0; i < n; i++) more &= handle(&events[i]);
    }
}

int main(int argc, char **argv) {
    static enum kind signals = SIGNALS, standard_input = STDIN;
    parse_options(argc, argv);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max; /* one descriptor per stream */
    setrlimit(RLIMIT_NOFILE, &limit);
    prctl(PR_SET_TIMERSLACK, 1); /* otherwise the kernel may wake us 50 us late */
    make_crc_table();
    poller = epoll_create1(EPOLL_CLOEXEC);
    sigset_t ending;
    sigemptyset(&ending), sigaddset(&ending, SIGTERM), sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    watch(EPOLL_CTL_ADD, signalfd(-1, &ending, SFD_CLOEXEC), &signals, EPOLLIN);
    replicas = calloc((size_t)options.replicas, sizeof *replicas);
    for (int64_t i = 0; i < options.replicas; i++) listen_on(&replicas[i], i);
    say_ready();
    struct epoll_event stdin_event = {.events = EPOLLIN, .data.ptr = &standard_input};
    /* A file or /dev/null cannot be waited for: it is at its end already. */
    if (!options.until_stdin_closes || !epoll_ctl(poller, EPOLL_CTL_ADD, 0, &stdin_event)) serve();
    if (options.truth_file) write_truth_file();
    return 0;
}

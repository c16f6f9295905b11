/* A load generator for echo servers: N connections, each sends a message, waits for all of it, sends the next.
 *
 *   load HOST PORT CONNECTIONS MESSAGE_BYTES WARMUP_MS MEASURE_MS
 *
 * It prints two lines of JSON and ends: {"measuring":true} when the warm-up is over, then the figures of the measured
 * time. Between the two, and only then, whoever started it reads the server's CPU time: it writes the first line,
 * then waits for a byte on stdin, and does the same at the end. Requests under way while it waits are not counted
 * twice: counters start at the first byte and stop before the second line.
 * An error of any connection ends it with a message and status 1: a figure with errors in it is no figure.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_MESSAGE = 65536, EVENTS = 256 };

struct connection {
    int fd;
    size_t received; /* of the reply under way */
    uint64_t sent_at_ns;
};

static char message[MAX_MESSAGE], reply[MAX_MESSAGE];
static size_t message_bytes;
static uint64_t requests;
static uint32_t *latencies_us; /* of the measured requests, in the order they ended */
static size_t latencies_room;

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int open_connection(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *found;
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        fprintf(stderr, "load: %s is no address\n", host);
        exit(1);
    }
    int fd = socket(found->ai_family, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    freeaddrinfo(found);
    return fd;
}

static void send_message(struct connection *c)
{
    c->received = 0;
    c->sent_at_ns = now_ns();
    size_t sent = 0;
    while (sent < message_bytes) {
        ssize_t n = send(c->fd, message + sent, message_bytes - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            fail("send");
        sent += n > 0 ? (size_t)n : 0;
    }
}

static void note_latency(struct connection *c)
{
    if (latencies_room > requests)
        latencies_us[requests] = (uint32_t)((now_ns() - c->sent_at_ns) / 1000);
    requests++;
}

static void read_reply(struct connection *c)
{
    ssize_t n = recv(c->fd, reply, message_bytes - c->received, MSG_DONTWAIT);
    if (n == 0) {
        errno = ECONNRESET;
        fail("the server closed");
    }
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return;
        fail("recv");
    }
    if (memcmp(reply, message + c->received, (size_t)n) != 0) {
        errno = EBADMSG;
        fail("not an echo");
    }
    c->received += (size_t)n;
    if (c->received == message_bytes) {
        note_latency(c);
        send_message(c);
    }
}

static void run_for(int ep, uint64_t duration_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t end = now_ns() + duration_ns;
    while (now_ns() < end) {
        int n = epoll_wait(ep, events, EVENTS, 100);
        if (n < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < n; i++)
            read_reply(events[i].data.ptr);
    }
}

static void wait_for_go(void)
{
    char byte;
    fflush(stdout);
    if (read(0, &byte, 1) != 1)
        exit(1);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: load HOST PORT CONNECTIONS MESSAGE_BYTES WARMUP_MS MEASURE_MS\n");
        return 2;
    }
    int connections = atoi(argv[3]);
    message_bytes = (size_t)atoi(argv[4]);
    if (connections < 1 || message_bytes < 1 || message_bytes > MAX_MESSAGE)
        return 2;
    for (size_t i = 0; i < message_bytes; i++)
        message[i] = (char)('a' + i % 26);

    struct connection *all = calloc((size_t)connections, sizeof *all);
    int ep = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        all[i].fd = open_connection(argv[1], argv[2]);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, all[i].fd, &event) < 0)
            fail("epoll_ctl");
    }
    for (int i = 0; i < connections; i++)
        send_message(&all[i]);
    run_for(ep, (uint64_t)atoi(argv[5]) * 1000000u);

    latencies_room = 8u << 20;
    latencies_us = calloc(latencies_room, sizeof *latencies_us);
    printf("{\"measuring\":true}\n");
    wait_for_go();
    requests = 0;
    uint64_t start = now_ns();
    double cpu = cpu_seconds();
    run_for(ep, (uint64_t)atoi(argv[6]) * 1000000u);
    double seconds = (double)(now_ns() - start) / 1e9;
    cpu = cpu_seconds() - cpu;
    size_t kept = requests < latencies_room ? requests : latencies_room;
    qsort(latencies_us, kept, sizeof *latencies_us, by_value);
    printf("{\"requests\":%llu,\"seconds\":%.6f,\"client_cpu_seconds\":%.6f,\"p50_us\":%u,\"p99_us\":%u}\n",
           (unsigned long long)requests, seconds, cpu, kept ? latencies_us[kept / 2] : 0,
           kept ? latencies_us[kept * 99 / 100] : 0);
    wait_for_go();
    return 0;
}

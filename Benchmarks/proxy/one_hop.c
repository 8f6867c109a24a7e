/* What one hop costs, from outside and from inside.
 *
 *     one_hop ask PORT REQUESTS < request      mean latency in nanoseconds, one connection, one request at a time
 *     one_hop relay UPSTREAM_PORT              passes octets of one connection; prints its port, and at the end of
 *                                              stdin the mean nanoseconds of a request that it sees itself
 *
 * The relay sees what a proxy sees of its own time: from the return of a read to the return of the write that follows.
 * What it does not see (waking up, the reads themselves, the way through the kernel) it shares with every proxy. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void stop(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int opened(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int yes = 1, s = socket(AF_INET, SOCK_STREAM, 0);
  if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof to)) stop("connect");
  setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return s;
}

/* Reads one response with Content-Length. */
static void response(int s) {
  static char reply[65536];
  size_t used = 0;
  for (;;) {
    ssize_t more = read(s, reply + used, sizeof reply - 1 - used);
    if (more <= 0) stop("read");
    used += (size_t)more;
    reply[used] = 0;
    char *end = strstr(reply, "\r\n\r\n");
    if (!end) continue;
    char *length = strcasestr(reply, "\r\ncontent-length:");
    if (!length || length > end || strncmp(reply, "HTTP/1.1 200", 12)) {
      errno = EPROTO;
      stop("response");
    }
    if (used >= (size_t)(end + 4 - reply) + strtoul(length + 17, NULL, 10)) return;
  }
}

static int ask(int port, long count) {
  static char request[8192];
  size_t size = fread(request, 1, sizeof request, stdin);
  int s = opened(port);
  int64_t total = 0;
  for (long i = -count / 10; i < count; i++) { /* the first tenth warms */
    int64_t start = now();
    if (write(s, request, size) != (ssize_t)size) stop("write");
    response(s);
    if (i >= 0) total += now() - start;
    /* What is done after a response must not wait in the way of the next request. */
    nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
  }
  printf("%.0f\n", (double)total / (double)count);
  return 0;
}

static int relay(int upstream) {
  struct sockaddr_in at = {.sin_family = AF_INET};
  socklen_t size = sizeof at;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&at, size) || listen(listener, 1)) stop("listen");
  getsockname(listener, (struct sockaddr *)&at, &size);
  printf("%d\n", ntohs(at.sin_port));
  fflush(stdout);
  int client = accept(listener, NULL, NULL), server = opened(upstream), poll = epoll_create1(0);
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  int ends[3] = {client, server, 0};
  for (int i = 0; i < 3; i++) {
    struct epoll_event want = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    epoll_ctl(poll, EPOLL_CTL_ADD, ends[i], &want);
  }
  static char octets[65536];
  int64_t total = 0;
  long requests = 0;
  for (;;) {
    struct epoll_event event;
    if (epoll_wait(poll, &event, 1, -1) < 1) continue;
    int from = (int)event.data.u32;
    ssize_t count = read(ends[from], octets, sizeof octets);
    int64_t start = now();
    if (from == 2) break;
    if (count <= 0) {
      epoll_ctl(poll, EPOLL_CTL_DEL, ends[from], NULL);
      continue;
    }
    if (write(ends[1 - from], octets, (size_t)count) != count) stop("write");
    total += now() - start;
    requests += from == 0;
  }
  printf("%.0f\n", (double)total / (double)(requests ? requests : 1));
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "ask")) return ask(atoi(argv[2]), atol(argv[3]));
  if (argc == 3 && !strcmp(argv[1], "relay")) return relay(atoi(argv[2]));
  fprintf(stderr, "usage: one_hop ask PORT REQUESTS < request | one_hop relay UPSTREAM_PORT\n");
  return 64;
}

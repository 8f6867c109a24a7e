/* Load at a constant rate, with latency counted from when a request was due (not from when it could be sent).
 *
 *     constant_rate PORT CONNECTIONS REQUESTS_PER_SECOND SECONDS < request
 *
 * A request that is due while every connection is busy waits for one, and its wait counts: a proxy that stalls is
 * charged with every request that it held up. HTTP/1.1 with Content-Length on 127.0.0.1; one thread that sleeps between
 * two due times, since the upstream shares its core. The first tenth of the requests warms and is left out of
 * the percentiles. Prints a line of JSON; exits 1 with a message when anything but 200 comes back. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { largest_reply = 16384, largest_request = 8192, most_connections = 1024 };

struct connection {
  int socket, used;
  int64_t due; /* nanoseconds; 0 when idle */
  char reply[largest_reply + 1];
};

static void stop(const char *format, ...) {
  va_list values;
  va_start(values, format);
  vfprintf(stderr, format, values);
  va_end(values);
  fputc('\n', stderr);
  exit(1);
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long number(const char *text, const char *name, long most) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*end || value < 1 || value > most) stop("%s is '%s'; it must be from 1 to %ld", name, text, most);
  return value;
}

static int opened(long port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int yes = 1, s = socket(AF_INET, SOCK_STREAM, 0);
  if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof to))
    stop("cannot connect to port %ld: %s", port, strerror(errno));
  setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return s;
}

/* Whether the reply is complete. */
static int complete(struct connection *c) {
  c->reply[c->used] = 0;
  char *end = strstr(c->reply, "\r\n\r\n");
  if (!end) return 0;
  if (strncmp(c->reply, "HTTP/1.1 200", 12)) stop("a reply that is not 200: %.40s", c->reply);
  char *field = strcasestr(c->reply, "\r\ncontent-length:");
  if (!field || field > end) stop("a reply without Content-Length");
  long length = strtol(field + 17, NULL, 10), whole = end + 4 - c->reply + length;
  if (length < 0 || whole > largest_reply || c->used > whole) stop("a reply of an unexpected length");
  return c->used == whole;
}

static void send_request(struct connection *c, const char *request, int length, int64_t due) {
  c->due = due, c->used = 0;
  if (send(c->socket, request, length, MSG_NOSIGNAL) != length) stop("cannot send a request: %s", strerror(errno));
}

static int by_size(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void print(uint32_t *took, long count, long warm, int64_t nanoseconds) {
  uint32_t *kept = took + warm;
  long n = count - warm;
  qsort(kept, n, sizeof *kept, by_size);
  printf("{\"requests\":%ld,\"microseconds\":%lld,\"p50\":%u,\"p99\":%u,\"p999\":%u}\n", count,
         (long long)nanoseconds / 1000, kept[n / 2], kept[n * 99 / 100], kept[n * 999 / 1000]);
}

int main(int count, char **words) {
  if (count != 5) stop("usage: constant_rate PORT CONNECTIONS REQUESTS_PER_SECOND SECONDS < request");
  long port = number(words[1], "PORT", 65535), width = number(words[2], "CONNECTIONS", most_connections);
  long rate = number(words[3], "REQUESTS_PER_SECOND", 1000000), seconds = number(words[4], "SECONDS", 60);
  char request[largest_request];
  int length = (int)fread(request, 1, sizeof request, stdin);
  if (length < 1 || length == largest_request) stop("the request on standard input is empty or too large");
  long total = rate * seconds, warm = total / 10, begun = 0, done = 0, idle_count = width;
  uint32_t *took = malloc(total * sizeof *took);
  struct connection *all = calloc(width, sizeof *all);
  int *idle = malloc(width * sizeof *idle), poll = epoll_create1(0);
  if (!took || !all || !idle || poll < 0) stop("out of memory");
  for (int i = 0; i < width; i++) {
    all[i].socket = opened(port), idle[i] = i;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    epoll_ctl(poll, EPOLL_CTL_ADD, all[i].socket, &event);
  }
  prctl(PR_SET_TIMERSLACK, 1UL);
  int64_t start = now(), limit = start + (seconds * 2 + 10) * 1000000000LL;
  long head = 0; /* the connections take turns: the one idle for longest is next */
  while (done < total) {
    int64_t at = now();
    if (at > limit) stop("%ld of %ld requests are without a reply: this rate is too much", total - done, total);
    int64_t due = start + begun * 1000000000LL / rate;
    for (; begun < total && idle_count && due <= at; due = start + begun * 1000000000LL / rate) {
      send_request(&all[idle[head]], request, length, due);
      head = (head + 1) % width, idle_count--, begun++;
    }
    int64_t left = begun < total && idle_count ? due - now() : 100000000;
    struct timespec wait = {0, left < 0 ? 0 : left % 1000000000};
    struct epoll_event events[64];
    int ready = epoll_pwait2(poll, events, 64, &wait, NULL);
    if (ready < 0 && errno != EINTR) stop("epoll_pwait2: %s (it needs Linux 5.11)", strerror(errno));
    for (int i = 0; i < ready; i++) {
      struct connection *c = &all[events[i].data.u32];
      ssize_t n = recv(c->socket, c->reply + c->used, largest_reply - c->used, MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) continue;
      if (n <= 0 || !c->due) stop("a connection was closed or spoke unasked");
      c->used += (int)n;
      if (!complete(c)) continue;
      took[done++] = (uint32_t)((now() - c->due) / 1000);
      c->due = 0;
      idle[(head + idle_count++) % width] = (int)events[i].data.u32;
    }
  }
  print(took, total, warm, now() - start);
  return 0;
}

#define _GNU_SOURCE
#include "logs_shim.h"
#include <fcntl.h>

ssize_t outrider_tee(int from, int to, size_t length) { return tee(from, to, length, SPLICE_F_NONBLOCK); }

ssize_t outrider_splice(int from, int to, size_t length) {
  return splice(from, NULL, to, NULL, length, SPLICE_F_NONBLOCK);
}

int outrider_pipe_capacity(int fd) { return fcntl(fd, F_GETPIPE_SZ); }

int outrider_set_pipe_capacity(int fd, int bytes) { return fcntl(fd, F_SETPIPE_SZ, bytes); }

#ifndef OUTRIDER_LOGS_SHIM_H
#define OUTRIDER_LOGS_SHIM_H
#include <stddef.h>
#include <sys/types.h>
#include <sys/eventfd.h>

/* tee(2) and splice(2), which libc declares for _GNU_SOURCE only; never block. -1 and errno on errors. */
ssize_t outrider_tee(int from, int to, size_t length);
ssize_t outrider_splice(int from, int to, size_t length);
/* The capacity of a pipe in bytes, -1 when the descriptor is no pipe. */
int outrider_pipe_capacity(int fd);
/* Sets the capacity and returns the one now in force, -1 on errors. */
int outrider_set_pipe_capacity(int fd, int bytes);
#endif

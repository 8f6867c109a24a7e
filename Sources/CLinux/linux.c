#define _GNU_SOURCE
#include "CLinux.h"
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int outrider_harden(const char *name) {
  struct rlimit none = {0, 0};
  if (prctl(PR_SET_NAME, name, 0, 0, 0) != 0) return -1;
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return -1;
  return setrlimit(RLIMIT_CORE, &none);
}

int outrider_accept_stream(int listening) { return accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

void outrider_trim_heap(void) { malloc_trim(0); }

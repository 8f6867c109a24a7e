/* Secrets of Outrider from shared memory (layout v1): header only, C11 with GNU atomics, Linux.
 *
 *   outrider_secrets memory = OUTRIDER_SECRETS_NONE;
 *   if (outrider_secrets_open(&memory) == 0) {
 *     size_t length;
 *     const void *value = NULL;
 *     if (outrider_secrets_read(&memory) == OUTRIDER_OK)
 *       value = outrider_secrets_find(&memory, "db.password", &length);
 *     outrider_secrets_wait(&memory, 1000);   // until something is published, at most a second
 *   }
 *
 * One `outrider_secrets` belongs to one thread. The copy that `read` makes is zeroed by the next one and by `close`. */
#ifndef OUTRIDER_SECRETS_H
#define OUTRIDER_SECRETS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
  OUTRIDER_OK = 0,
  OUTRIDER_NOT_READY = 1, /* not all secrets are there yet */
  OUTRIDER_STALE = 2,     /* the last good copy is kept: the sidecar says so, or it died while it wrote */
  OUTRIDER_CLOSED = 3,    /* open again: nothing comes here any more */
  OUTRIDER_ERROR = -1     /* errno tells */
};

typedef struct {
  int fd;
  const unsigned char *map;
  size_t length;
  unsigned char *copy; /* the records of the last good read */
  size_t used;
  uint32_t count;
  uint32_t seq;
  uint64_t generation;
} outrider_secrets;

#define OUTRIDER_SECRETS_NONE {-1, NULL, 0, NULL, 0, 0, 0, 0}

static inline uint32_t outrider_u32(const unsigned char *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint32_t outrider_crc32(const unsigned char *bytes, size_t length) {
  uint32_t value = 0xffffffffu;
  for (size_t i = 0; i < length; i++) {
    value ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
  }
  return ~value;
}

static inline void outrider_secrets_close(outrider_secrets *s) {
  if (s->copy) {
    explicit_bzero(s->copy, s->length);
    free(s->copy);
  }
  if (s->map) munmap((void *)s->map, s->length);
  if (s->fd >= 0) close(s->fd);
  *s = (outrider_secrets)OUTRIDER_SECRETS_NONE;
}

/* Takes over a descriptor, for example one that the socket handed over. 0, or -1 with errno. */
static inline int outrider_secrets_adopt(outrider_secrets *s, int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return -1;
  if (status.st_size < 64) {
    errno = EINVAL;
    return -1;
  }
  void *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return -1;
  unsigned char *copy = calloc(1, (size_t)status.st_size);
  if (!copy || memcmp(map, "OUTSEC\0\1", 8) != 0) {
    munmap(map, (size_t)status.st_size);
    free(copy);
    errno = EPROTO;
    return -1;
  }
  outrider_secrets_close(s);
  s->fd = fd;
  s->map = map;
  s->length = (size_t)status.st_size;
  s->copy = copy;
  return 0;
}

/* Opens the file of OUTRIDER_SECRETS_PATH, else the descriptor OUTRIDER_SECRETS_FD. 0, or -1 with errno. */
static inline int outrider_secrets_open(outrider_secrets *s) {
  const char *path = getenv("OUTRIDER_SECRETS_PATH"), *number = getenv("OUTRIDER_SECRETS_FD");
  int fd = -1;
  if (path) fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && number) fd = fcntl(atoi(number), F_DUPFD_CLOEXEC, 3);
  if (fd < 0) {
    if (!path && !number) errno = ENOENT;
    return -1;
  }
  if (outrider_secrets_adopt(s, fd) == 0) return 0;
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

/* Copies what is published now. Anything but OUTRIDER_OK and OUTRIDER_STALE leaves the copy as it was. */
static inline int outrider_secrets_read(outrider_secrets *s) {
  const uint32_t *word = (const uint32_t *)(const void *)(s->map + 16);
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (;;) {
    uint32_t seq = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    if (!(seq & 1)) {
      uint32_t flags = outrider_u32(s->map + 20), used = outrider_u32(s->map + 40), sum = outrider_u32(s->map + 44),
               count = outrider_u32(s->map + 48);
      uint64_t generation = outrider_u32(s->map + 24) | (uint64_t)outrider_u32(s->map + 28) << 32;
      if (used <= s->length - 64) {
        unsigned char *fresh = malloc(used + 1);
        if (!fresh) return OUTRIDER_ERROR;
        memcpy(fresh, s->map + 64, used);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        int whole = __atomic_load_n(word, __ATOMIC_RELAXED) == seq && outrider_crc32(fresh, used) == sum;
        if (whole && !(flags & 4)) {
          memcpy(s->copy, fresh, used);
          if (s->used > used) explicit_bzero(s->copy + used, s->used - used);
          s->used = used;
          s->count = count;
          s->generation = generation;
        }
        explicit_bzero(fresh, used);
        free(fresh);
        if (whole) {
          s->seq = seq;
          return flags & 4 ? OUTRIDER_CLOSED : flags & 2 ? OUTRIDER_STALE : flags & 1 ? OUTRIDER_OK : OUTRIDER_NOT_READY;
        }
      }
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    if ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec > 10000000L) return OUTRIDER_STALE;
  }
}

/* The value of NAME.FIELD in the last copy, NULL when it has none. */
static inline const void *outrider_secrets_find(const outrider_secrets *s, const char *name, size_t *length) {
  size_t at = 0, wanted = strlen(name);
  for (uint32_t i = 0; i < s->count && at + 32 <= s->used; i++) {
    const unsigned char *record = s->copy + at;
    size_t whole = outrider_u32(record), names = record[4] | (size_t)record[5] << 8, value = outrider_u32(record + 8);
    if (whole < 32 || whole > s->used - at || names + value > whole - 32) return NULL;
    if (names == wanted && memcmp(record + 32, name, names) == 0) {
      *length = value;
      return record + 32 + names;
    }
    at += whole;
  }
  return NULL;
}

/* Waits until something was published since the last read: 1, or 0 after the time. */
static inline int outrider_secrets_wait(outrider_secrets *s, int milliseconds) {
  struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
  const uint32_t *word = (const uint32_t *)(const void *)(s->map + 16);
  if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == s->seq)
    syscall(SYS_futex, word, FUTEX_WAIT, s->seq, &time, NULL, 0);
  return __atomic_load_n(word, __ATOMIC_ACQUIRE) != s->seq;
}

#endif

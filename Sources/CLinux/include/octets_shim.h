#ifndef OUTRIDER_OCTETS_SHIM_H
#define OUTRIDER_OCTETS_SHIM_H
#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4) of the bytes behind those that came to `crc`; begin with 0. */
uint32_t outrider_crc32c(uint32_t crc, const void *bytes, size_t length);

#if defined(__SSE2__)
typedef unsigned char outrider_octets __attribute__((vector_size(16)));
typedef char outrider_flags __attribute__((vector_size(16)));
#endif

/* The offset of the first quote, backslash or control character in [at, end), or `end`. */
static inline __attribute__((always_inline)) size_t outrider_plain_end(const void *bytes, size_t at, size_t end) {
  const unsigned char *p = (const unsigned char *)bytes;
#if defined(__SSE2__)
  while (at + 16 <= end) {
    outrider_octets w;
    __builtin_memcpy(&w, p + at, 16);
    outrider_flags hit = (outrider_flags)((w == 0x22) | (w == 0x5C) | (w < 0x20));
    int mask = __builtin_ia32_pmovmskb128(hit);
    if (mask) return at + (size_t)__builtin_ctz((unsigned)mask);
    at += 16;
  }
#else
  const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
  while (at + 8 <= end) {
    uint64_t w;
    __builtin_memcpy(&w, p + at, 8);
    uint64_t quote = w ^ (ones * 0x22), slash = w ^ (ones * 0x5C);
    uint64_t hit = (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((w - ones * 0x20) & ~w)) & tops;
    /* The lowest marked byte is exact; false marks can only stand above it. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (hit) return at + (size_t)__builtin_ctzll(hit) / 8;
#else
    if (hit) break;
#endif
    at += 8;
  }
#endif
  while (at < end && p[at] != 0x22 && p[at] != 0x5C && p[at] >= 0x20) at++;
  return at;
}

/* The offset of the first byte above 0x7F in [at, end), or `end`. */
static inline __attribute__((always_inline)) size_t outrider_ascii_end(const void *bytes, size_t at, size_t end) {
  const unsigned char *p = (const unsigned char *)bytes;
#if defined(__SSE2__)
  while (at + 16 <= end) {
    outrider_flags w;
    __builtin_memcpy(&w, p + at, 16);
    int mask = __builtin_ia32_pmovmskb128(w);
    if (mask) return at + (size_t)__builtin_ctz((unsigned)mask);
    at += 16;
  }
#else
  while (at + 8 <= end) {
    uint64_t w;
    __builtin_memcpy(&w, p + at, 8);
    if (w & 0x8080808080808080u) break;
    at += 8;
  }
#endif
  while (at < end && p[at] < 0x80) at++;
  return at;
}
#endif

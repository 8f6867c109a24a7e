#include "octets_shim.h"

#include <stdatomic.h>

static uint32_t by_table(uint32_t crc, const unsigned char *p, size_t length) {
  static uint32_t table[256];
  static atomic_int is_made;
  if (!atomic_load_explicit(&is_made, memory_order_acquire)) {
    for (uint32_t n = 0; n < 256; n++) {
      uint32_t value = n;
      for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0x82F63B78u : 0);
      table[n] = value;
    }
    atomic_store_explicit(&is_made, 1, memory_order_release);
  }
  while (length-- > 0) crc = crc >> 8 ^ table[(crc ^ *p++) & 0xFF];
  return crc;
}

#if defined(__x86_64__)
#define HARDWARE __attribute__((target("sse4.2")))
#define STEP64(crc, word) ((uint32_t)__builtin_ia32_crc32di((crc), (word)))
#define STEP8(crc, byte) ((uint32_t)__builtin_ia32_crc32qi((crc), (byte)))
static int has_hardware(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
#include <sys/auxv.h>
#define HARDWARE __attribute__((target("crc")))
#define STEP64(crc, word) __builtin_arm_crc32cd((crc), (word))
#define STEP8(crc, byte) __builtin_arm_crc32cb((crc), (byte))
/* HWCAP_CRC32 of asm/hwcap.h. */
static int has_hardware(void) { return (getauxval(AT_HWCAP) & 1 << 7) != 0; }
#endif

#if defined(HARDWARE)
HARDWARE static uint32_t by_hardware(uint32_t crc, const unsigned char *p, size_t length) {
  while (length >= 8) {
    uint64_t word;
    __builtin_memcpy(&word, p, 8);
    crc = STEP64(crc, word);
    p += 8;
    length -= 8;
  }
  while (length-- > 0) crc = STEP8(crc, *p++);
  return crc;
}
#endif

uint32_t outrider_crc32c(uint32_t crc, const void *bytes, size_t length) {
#if defined(HARDWARE)
  if (has_hardware()) return ~by_hardware(~crc, bytes, length);
#endif
  return ~by_table(~crc, bytes, length);
}

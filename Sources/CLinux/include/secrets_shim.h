#ifndef OUTRIDER_SECRETS_SHIM_H
#define OUTRIDER_SECRETS_SHIM_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Anonymous memory of `length` octets as a descriptor, close-on-exec; -1 with errno on error.
int outrider_secret_memory(size_t length);

/// After this nobody maps the memory for writing, writes it or changes its length; mappings that exist go on writing.
/// 0, or -1 with errno (a kernel before 5.1 does not know F_SEAL_FUTURE_WRITE).
int outrider_seal_memory(int descriptor);

/// Stores of a seqlock's writer: what was written before a release is visible before what it stores.
void outrider_store_release(uint32_t *word, uint32_t value);
uint32_t outrider_load_acquire(const uint32_t *word);
void outrider_release_fence(void);

/// Wakes every process that waits on the word, whatever its mapping.
void outrider_wake_waiters(uint32_t *word);

/// The user at the other end of a Unix socket (SO_PEERCRED). 0, or -1 with errno.
int outrider_peer_user(int socket, uid_t *user);

/// The next connection of a listening socket, close-on-exec; -1 with errno on error.
int outrider_accept(int socket);

/// 1 when the path lies on tmpfs or ramfs, 0 when not, -1 with errno when it cannot be told.
int outrider_is_memory_file_system(const char *path);
#endif

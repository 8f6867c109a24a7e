#ifndef OUTRIDER_LINUX_SHIM_H
#define OUTRIDER_LINUX_SHIM_H

/// Makes this process undumpable (no core, no look by others of the same user) and names it. 0 or -1 with errno.
int outrider_harden(const char *name);

/// A connection of a listening socket, close-on-exec and not blocking; -1 with errno.
int outrider_accept_stream(int listening);

/// Gives freed memory back to the kernel.
void outrider_trim_heap(void);
#endif

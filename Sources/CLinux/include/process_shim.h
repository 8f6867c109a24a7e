#ifndef OUTRIDER_PROCESS_SHIM_H
#define OUTRIDER_PROCESS_SHIM_H
#include <stddef.h>
#include <sys/types.h>

/// At most this many descriptors travel with one message (the kernel's SCM_MAX_FD is 253).
enum { OUTRIDER_MAX_DESCRIPTORS = 250 };

/// Sends bytes, with `count` descriptors attached to the first of them; never raises SIGPIPE.
/// Returns the number of bytes taken, or -1 with errno.
ssize_t outrider_send(int socket, const void *bytes, size_t length, const int *descriptors, size_t count);

/// Receives bytes and descriptors (close-on-exec). `*count` is set to the number of descriptors stored, which is at
/// most OUTRIDER_MAX_DESCRIPTORS, the size that `descriptors` must have. Returns bytes, 0 at the end, -1 with errno.
ssize_t outrider_receive(int socket, void *bytes, size_t length, int *descriptors, size_t *count);

/// What was being done in the child when it failed.
enum outrider_spawn_stage {
  OUTRIDER_SPAWN_FORK = 1,
  OUTRIDER_SPAWN_DESCRIPTORS = 2,
  OUTRIDER_SPAWN_GROUP = 3,
  OUTRIDER_SPAWN_USER = 4,
  OUTRIDER_SPAWN_DIRECTORY = 5,
  OUTRIDER_SPAWN_EXEC = 6,
};

struct outrider_spawn_request {
  /// A path, or a name that is looked up in the PATH of the environment.
  const char *file;
  char *const *arguments;
  /// NULL = the caller's.
  char *const *environment;
  /// NULL = stay where the caller is.
  const char *directory;
  /// A name or a number; NULL = unchanged. A user without a group gets the user's own groups.
  const char *user;
  const char *group;
  /// Descriptor i of the child is a copy of descriptors[i]; -1 leaves descriptor i as it is.
  const int *descriptors;
  size_t descriptor_count;
  /// Not 0 = the new process group gets the terminal on descriptor 0. The caller ignores SIGTTOU.
  int takes_terminal;
};

/// Starts a process in its own process group with an empty signal mask and default signal actions.
/// Returns 0 and the process id, or an errno value and the stage that failed. Call from a single-threaded process.
int outrider_spawn(const struct outrider_spawn_request *request, pid_t *pid, int *stage);

/// A signalfd for the signals that a supervisor handles, which become blocked for the caller. -1 with errno on error.
int outrider_signal_descriptor(void);

/// A pipe, close-on-exec, whose read end does not block. `size` is asked for; a smaller one is no error.
int outrider_app_pipe(int ends[2], int size);

/// Orphans among the descendants become children of this process. Without effect on failure.
void outrider_become_subreaper(void);

/// The exit status of waitpid: the exit code, or -N when signal N ended the process.
int outrider_exit_of_status(int status);

/// The signal that stopped a process, of the status of waitpid with WUNTRACED; 0 = it has ended.
int outrider_stop_of_status(int status);

/// Gives the memory back that holds code and constants of the start: pages of files, which come back when they are
/// touched. What was written to (relocations, variables) stays.
void outrider_release_file_pages(void);

/// What is unread in a pipe and whether a writer is left: 1 when it is empty and no writer is left, else 0.
int outrider_pipe_is_finished(int descriptor);

/// Anonymous memory as a descriptor, close-on-exec; -1 with errno on error.
int outrider_memory(void);

/// 1 when the descriptor is such memory.
int outrider_is_memory(int descriptor);
#endif

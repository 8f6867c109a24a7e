#define _GNU_SOURCE
#include "process_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <link.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

ssize_t outrider_send(int socket, const void *bytes, size_t length, const int *descriptors, size_t count) {
  union {
    char space[CMSG_SPACE(sizeof(int) * OUTRIDER_MAX_DESCRIPTORS)];
    struct cmsghdr align;
  } control;
  struct iovec vector = {.iov_base = (void *)bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (count > OUTRIDER_MAX_DESCRIPTORS) {
    errno = EINVAL;
    return -1;
  }
  if (count > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = control.space;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * count);
  }
  ssize_t sent;
  do sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent;
}

ssize_t outrider_receive(int socket, void *bytes, size_t length, int *descriptors, size_t *count) {
  union {
    char space[CMSG_SPACE(sizeof(int) * OUTRIDER_MAX_DESCRIPTORS)];
    struct cmsghdr align;
  } control;
  struct iovec vector = {.iov_base = bytes, .iov_len = length};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  *count = 0;
  ssize_t received;
  do received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (received < 0 && errno == EINTR);
  if (received < 0) return received;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t found = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (*count + found > OUTRIDER_MAX_DESCRIPTORS) found = OUTRIDER_MAX_DESCRIPTORS - *count;
    memcpy(descriptors + *count, CMSG_DATA(header), found * sizeof(int));
    *count += found;
  }
  return received;
}

struct spawn_failure {
  int stage;
  int error;
};

static void fail(int report, int stage, int error) {
  struct spawn_failure failure = {stage, error};
  ssize_t ignored = write(report, &failure, sizeof failure);
  (void)ignored;
  _exit(127);
}

static int number_of(const char *text, unsigned long *number) {
  char *end = NULL;
  errno = 0;
  *number = strtoul(text, &end, 10);
  return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && *number < 0xffffffffUL;
}

/// Takes the group, then the user; a name that does not exist is EINVAL.
static void drop_privileges(const struct outrider_spawn_request *request, int report) {
  unsigned long number;
  gid_t group = getgid();
  int group_is_known = 0;
  if (request->group) {
    struct group *entry = NULL;
    if (number_of(request->group, &number)) group = (gid_t)number;
    else if ((entry = getgrnam(request->group))) group = entry->gr_gid;
    else fail(report, OUTRIDER_SPAWN_GROUP, EINVAL);
    group_is_known = 1;
  }
  if (!request->user) {
    if (group_is_known && setgid(group) != 0) fail(report, OUTRIDER_SPAWN_GROUP, errno);
    return;
  }
  struct passwd *entry;
  uid_t user;
  if (number_of(request->user, &number)) {
    user = (uid_t)number;
    entry = getpwuid(user);
  } else {
    entry = getpwnam(request->user);
    if (!entry) fail(report, OUTRIDER_SPAWN_USER, EINVAL);
    user = entry->pw_uid;
  }
  if (!group_is_known && entry) group = entry->pw_gid;
  if (geteuid() == 0) {
    if (entry ? initgroups(entry->pw_name, group) != 0 : setgroups(0, NULL) != 0)
      fail(report, OUTRIDER_SPAWN_GROUP, errno);
  }
  if (setgid(group) != 0) fail(report, OUTRIDER_SPAWN_GROUP, errno);
  if (setuid(user) != 0) fail(report, OUTRIDER_SPAWN_USER, errno);
}

static void place_descriptors(const struct outrider_spawn_request *request, int report) {
  int first_free = (int)request->descriptor_count + 3;
  int copies[16];
  if (request->descriptor_count > 16) fail(report, OUTRIDER_SPAWN_DESCRIPTORS, EINVAL);
  for (size_t i = 0; i < request->descriptor_count; i++) {
    copies[i] = request->descriptors[i];
    if (copies[i] < 0) continue;
    copies[i] = fcntl(copies[i], F_DUPFD_CLOEXEC, first_free);
    if (copies[i] < 0) fail(report, OUTRIDER_SPAWN_DESCRIPTORS, errno);
  }
  for (size_t i = 0; i < request->descriptor_count; i++)
    if (copies[i] >= 0 && dup2(copies[i], (int)i) < 0) fail(report, OUTRIDER_SPAWN_DESCRIPTORS, errno);
}

static void become(const struct outrider_spawn_request *request, int report) {
  sigset_t none;
  struct sigaction plain;
  setpgid(0, 0);
  if (request->takes_terminal) tcsetpgrp(STDIN_FILENO, getpid());
  memset(&plain, 0, sizeof plain);
  plain.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; number++) sigaction(number, &plain, NULL);
  report = fcntl(report, F_DUPFD_CLOEXEC, 64);
  if (report < 0) _exit(127);
  place_descriptors(request, report);
  drop_privileges(request, report);
  if (request->directory && chdir(request->directory) != 0) fail(report, OUTRIDER_SPAWN_DIRECTORY, errno);
  if (request->environment) environ = (char **)request->environment;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execvp(request->file, request->arguments);
  fail(report, OUTRIDER_SPAWN_EXEC, errno);
}

int outrider_spawn(const struct outrider_spawn_request *request, pid_t *pid, int *stage) {
  int report[2];
  struct spawn_failure failure;
  *stage = OUTRIDER_SPAWN_FORK;
  if (pipe2(report, O_CLOEXEC) != 0) return errno;
  pid_t child = fork();
  if (child < 0) {
    int error = errno;
    close(report[0]);
    close(report[1]);
    return error;
  }
  if (child == 0) become(request, report[1]);
  close(report[1]);
  setpgid(child, child);  // Also here: whoever signals the group next must find it, whichever process runs first.
  ssize_t got;
  do got = read(report[0], &failure, sizeof failure);
  while (got < 0 && errno == EINTR);
  close(report[0]);
  if (got == (ssize_t)sizeof failure) {
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    *stage = failure.stage;
    return failure.error;
  }
  *pid = child;
  return 0;
}

int outrider_signal_descriptor(void) {
  static const int handled[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGCHLD};
  sigset_t set;
  struct sigaction ignore;
  sigemptyset(&set);
  for (size_t i = 0; i < sizeof handled / sizeof *handled; i++) sigaddset(&set, handled[i]);
  if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return -1;
  memset(&ignore, 0, sizeof ignore);
  ignore.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &ignore, NULL);  // An inherited SIG_IGN would reap the children behind our back.
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, NULL);
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int outrider_app_pipe(int ends[2], int size) {
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  fcntl(ends[0], F_SETPIPE_SZ, size);
  return 0;
}

void outrider_become_subreaper(void) { prctl(PR_SET_CHILD_SUBREAPER, 1); }

int outrider_exit_of_status(int status) {
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int outrider_stop_of_status(int status) { return WIFSTOPPED(status) ? WSTOPSIG(status) : 0; }

int outrider_pipe_is_finished(int descriptor) {
  struct pollfd entry = {.fd = descriptor, .events = POLLIN};
  if (poll(&entry, 1, 0) < 1) return 0;
  return (entry.revents & (POLLHUP | POLLERR)) != 0 && (entry.revents & POLLIN) == 0;
}

/// Read-only segments of the program and its libraries. Relocated ones lie in writable segments and are left alone.
static int release_object(struct dl_phdr_info *info, size_t size, void *seen) {
  (void)size;
  // The program comes first and has no name; everything else without a path is not a file.
  int *count = seen;
  if ((*count)++ > 0 && (info->dlpi_name == NULL || info->dlpi_name[0] != '/')) return 0;
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
    if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W)) continue;
    uintptr_t start = (info->dlpi_addr + segment->p_vaddr) & ~(page - 1);
    uintptr_t end = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;
    madvise((void *)start, end - start, MADV_DONTNEED);
  }
  return 0;
}

void outrider_release_file_pages(void) {
  int seen = 0;
  dl_iterate_phdr(release_object, &seen);
}

int outrider_memory(void) { return memfd_create("outrider", MFD_CLOEXEC | MFD_ALLOW_SEALING); }

int outrider_is_memory(int descriptor) { return fcntl(descriptor, F_GET_SEALS) >= 0; }

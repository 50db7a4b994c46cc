/* Preloaded into the server: a slow disk (HOSTILE_FSYNC_MS), a wrong clock (HOSTILE_CLOCK_S, added
   to the time of day), and a thread whose wait for sockets fails, of which it dies (HOSTILE_THREAD
   names a file with its id). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long setting(const char *name) {
  const char *text = getenv(name);
  return text ? atol(text) : 0;
}

static void wait_for_disk(void) {
  long ms = setting("HOSTILE_FSYNC_MS");
  if (ms > 0) usleep(ms * 1000);
}

int fsync(int fd) {
  static int (*next)(int);
  if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  wait_for_disk();
  return next(fd);
}

int fdatasync(int fd) {
  static int (*next)(int);
  if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  wait_for_disk();
  return next(fd);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  static int (*next)(clockid_t, struct timespec *);
  if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = next(clock, time);
  if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += setting("HOSTILE_CLOCK_S");
  return result;
}

int epoll_wait(int epoll, struct epoll_event *events, int count, int timeout) {
  static int (*next)(int, struct epoll_event *, int, int);
  if (!next) next = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
  const char *path = getenv("HOSTILE_THREAD");
  FILE *file = path ? fopen(path, "r") : NULL;
  long thread = 0;
  if (file) {
    if (fscanf(file, "%ld", &thread) != 1) thread = 0;
    fclose(file);
  }
  if (thread != 0 && thread == syscall(SYS_gettid)) {
    errno = EBADF;
    return -1;
  }
  return next(epoll, events, count, timeout);
}

/* Lets the n-th change of a file below a folder fail, or kills the process there.
 *
 *     cc -shared -fPIC -O1 -o fault_shim.so fault_shim.c -ldl
 *     LD_PRELOAD=./fault_shim.so python fault_writers.py
 *
 * fault_arm(folder, n, error, always): count from now on; call n, and with `always` every later
 * one, fails with `error`; error 0 kills the process instead. fault_count(): calls until now.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static int target = 0, failure = 0, persistent = 0, count = 0;

void fault_arm(const char *below, int n, int error, int always) {
    snprintf(folder, sizeof folder, "%s", below);
    target = n; failure = error; persistent = always; count = 0;
}
int fault_count(void) { return count; }

static int strikes(const char *path) {
    if (!folder[0] || !path || strncmp(path, folder, strlen(folder))) return 0;
    count++;
    if (!target || (persistent ? count < target : count != target)) return 0;
    if (!failure) kill(getpid(), SIGKILL);
    errno = failure;
    return 1;
}
static int strikes_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return strikes(path);
}
#define NEXT(name) static __typeof__(&name) next; if (!next) next = dlsym(RTLD_NEXT, #name)
#define ON_FD(name, type, parameters, ...) \
    type name parameters { NEXT(name); if (strikes_fd(fd)) return -1; return next(__VA_ARGS__); }
#define ON_PATH(name, parameters, ...) \
    int name parameters { NEXT(name); if (strikes(path)) return -1; return next(__VA_ARGS__); }
#define ON_OPEN(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(name); va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
        if ((flags & O_CREAT) && strikes(path)) return -1; \
        return next(path, flags, mode); }

ON_FD(write, ssize_t, (int fd, const void *b, size_t n), fd, b, n)
ON_FD(pwrite, ssize_t, (int fd, const void *b, size_t n, off_t o), fd, b, n, o)
ON_FD(pwrite64, ssize_t, (int fd, const void *b, size_t n, off64_t o), fd, b, n, o)
ON_FD(writev, ssize_t, (int fd, const struct iovec *v, int n), fd, v, n)
ON_FD(fsync, int, (int fd), fd)
ON_FD(fdatasync, int, (int fd), fd)
ON_FD(ftruncate, int, (int fd, off_t n), fd, n)
ON_FD(ftruncate64, int, (int fd, off64_t n), fd, n)
ON_PATH(rename, (const char *path, const char *to), path, to)
ON_PATH(link, (const char *path, const char *to), path, to)
ON_PATH(unlink, (const char *path), path)
ON_PATH(mkdir, (const char *path, mode_t mode), path, mode)
ON_OPEN(open)
ON_OPEN(open64)

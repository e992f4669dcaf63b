/* A disk that can be looked at as a loss of power would leave it, and that can fail.

   Loaded before the C library (LD_PRELOAD), it keeps a copy, NAME.kept, of each file below the
   folder WATTFILL_DISK as it was when it was last brought to the disk: what was written since is
   what a loss of power takes away. While that folder has a file named "fails", nothing can be
   brought to the disk any more. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHORT = PATH_MAX + 16, LONG = PATH_MAX + 32 };

static const char *folder(void) {
    return getenv("WATTFILL_DISK");
}

static int is_ours(const char *path) {
    return folder() && strncmp(path, folder(), strlen(folder())) == 0;
}

/* Copies by the descriptor itself: to close another one of the file would drop SQLite's locks. */
static void keep(int fd, const char *path) {
    char kept[SHORT], next[LONG], block[1 << 16];
    snprintf(kept, sizeof kept, "%s.kept", path);
    snprintf(next, sizeof next, "%s.next", kept);
    int copy = open(next, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    off_t at = 0;
    for (ssize_t n; (n = pread(fd, block, sizeof block, at)) > 0; at += n)
        if (write(copy, block, n) != n) abort();
    close(copy);
    if (rename(next, kept)) abort();
}

static int bring(const char *name, int fd) {
    char link[64], path[PATH_MAX];
    struct stat found;
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0 || fstat(fd, &found) || !S_ISREG(found.st_mode)) return real(fd);
    path[n] = 0;
    if (!is_ours(path)) return real(fd);
    char fails[SHORT];
    snprintf(fails, sizeof fails, "%s/fails", folder());
    if (access(fails, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    int outcome = real(fd);
    if (outcome == 0) keep(fd, path);
    return outcome;
}

int fsync(int fd) {
    return bring("fsync", fd);
}

int fdatasync(int fd) {
    return bring("fdatasync", fd);
}

int unlink(const char *path) {
    int (*real)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");
    if (is_ours(path)) {
        char kept[SHORT];
        snprintf(kept, sizeof kept, "%s.kept", path);
        real(kept);
    }
    return real(path);
}

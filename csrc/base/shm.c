#define _GNU_SOURCE     /* memfd, O_TMPFILE, F_OFD_SETLK */
#include "base/shm.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHM_DIR "/dev/shm"

int shm_path(const char *name, char path[SHM_PATH])
{
    path[0] = '\0';
    if (name == NULL)
        return 0;
    size_t length = strlen(name);
    if (length == 0 || length > 255 || strchr(name, '/') != NULL || name[0] == '.')
        return -EINVAL;
    snprintf(path, SHM_PATH, SHM_DIR "/%s", name);
    return 0;
}

int shm_make(const char *path, const char *label, uint64_t size)
{
    int rc, fd = path[0] == '\0' ? memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING)
                                 : open(SHM_DIR, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    do
        rc = posix_fallocate(fd, 0, (off_t)size);
    while (rc == EINTR);
    if (rc == 0)
        return fd;
    close(fd);
    return -rc;
}

int shm_show(int fd, const char *path)
{
    if (path[0] == '\0')
        return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ? -errno : 0;
    char self[32];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int shm_reopen(const char *name, int fd, int flags)
{
    char path[SHM_PATH];
    flags |= O_CLOEXEC;
    if (fd >= 0) {
        if (fcntl(fd, F_GETFD) < 0)
            return -errno;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    } else if (name == NULL || shm_path(name, path) < 0) {
        return -EINVAL;
    } else {
        flags |= O_NOFOLLOW;
    }
    int opened = open(path, flags);
    return opened < 0 ? -errno : opened;
}

void shm_unlink_own(int fd, const char *path)
{
    struct stat named, ours;
    if (path[0] != '\0' && stat(path, &named) == 0 && fstat(fd, &ours) == 0 &&
        named.st_ino == ours.st_ino && named.st_dev == ours.st_dev)
        unlink(path);
}

int shm_map(char *base, uint64_t length, int protection, int fd, uint64_t offset)
{
    int flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;
    return mmap(base, length, protection, flags, fd, (off_t)offset) == MAP_FAILED ? -errno : 0;
}

char *shm_reserve(uint64_t length)
{
    char *base = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}

static struct flock range(uint64_t at, uint64_t length, short type)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)at, .l_len = (off_t)length,
    };
}

int shm_lock(int fd, uint64_t at, uint64_t length, short type)
{
    struct flock lock = range(at, length, type);
    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

int shm_locked(int fd, uint64_t at, uint64_t length)
{
    struct flock lock = range(at, length, F_WRLCK);
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

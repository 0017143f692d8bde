#pragma once
#include <stdint.h>

/* Files of shared memory: a memfd, or a name in /dev/shm that is there only when it is whole. */

enum { SHM_PATH = 272 };

/* The path of `name`, which is one plain file name; "" for NULL. 0 or -EINVAL. */
int shm_path(const char *name, char path[SHM_PATH]);
/* A new file without a name, all its memory taken: a full file system is an error now, not
 * SIGBUS later. `label` is what a memfd (an empty path) is called. Descriptor or negative errno. */
int shm_make(const char *path, const char *label, uint64_t size);
/* Gives the file its name; a memfd is sealed against resizing. */
int shm_show(int fd, const char *path);
/* Opens the file anew, by name or (>= 0) descriptor: locks of an inherited one are shared.
 * `flags` as of open(). Descriptor or negative errno. */
int shm_reopen(const char *name, int fd, int flags);
/* Removes the name, unless it belongs to another file by now. */
void shm_unlink_own(int fd, const char *path);
/* Maps shared and populated at `base`, within what is reserved there. */
int shm_map(char *base, uint64_t length, int protection, int fd, uint64_t offset);
/* Address space to map into, or NULL. */
char *shm_reserve(uint64_t length);
/* An open-file-description lock on `length` bytes: the kernel drops it with the process. */
int shm_lock(int fd, uint64_t at, uint64_t length, short type);
/* Whether somebody else holds such a lock there. */
int shm_locked(int fd, uint64_t at, uint64_t length);

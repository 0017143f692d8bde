#include "source/walk.h"
#include <stdarg.h>
#include <stdio.h>

int walk_broken(struct capture_info *info, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(info->reason, sizeof(info->reason), format, args);
    va_end(args);
    return -EBADMSG;
}

int walk_short(struct capture_info *info, const struct window *w, uint64_t offset, const char *what)
{
    if (!w->eof)
        return -EAGAIN;
    if (w->fault != NULL) {
        info->truncated = w->cut;
        return walk_broken(info, "%s, at or behind offset %lu", w->fault, offset);
    }
    if (offset == window_offset(w) && window_left(w) == 0)
        return -ENODATA;
    info->truncated = 1;
    return walk_broken(info, "the file ends inside the %s at offset %lu", what, offset);
}

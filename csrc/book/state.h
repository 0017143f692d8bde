#pragma once
#include "book/book.h"
#include "event.h"

/* What a book's state means. For C only; `gaps` is the gap count of its feed. */

/* It may be wrong: broken by itself, or last known right before a gap. */
static inline int book_suspect(const struct book *book, uint32_t gaps)
{
    return book->epoch != gaps || (book->state & BOOK_BROKEN);
}

static inline int book_halted(const struct book *book) { return (book->state & (BOOK_HALTED | BOOK_STOPPED)) != 0; }

/* FLAG_* that an event about this book carries. */
static inline uint16_t book_flags(const struct book *book, uint32_t gaps)
{
    uint16_t flags = 0;
    if (book_suspect(book, gaps))
        flags |= FLAG_SUSPECT;
    if (book_halted(book))
        flags |= FLAG_HALTED;
    return flags;
}

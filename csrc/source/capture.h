#pragma once
#include "source/capture_info.h"
#include "source/source.h"

/* The capture source: pcap and pcapng, plain, gzip or zstd, at nanosecond precision. */

/* 0 and a source, or a negative errno with `reason` (REASON_SIZE bytes) filled. */
int capture_open(const char *path, struct source **source, char *reason);
const struct capture_info *capture_info(struct source *source);     /* NULL: it is no capture */

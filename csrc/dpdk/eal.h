#pragma once

/* DPDK's environment layer, once per process. Only the files of this room know DPDK, and only a
 * build with DPDK has them. */

const char *eal_version(void);          /* of the DPDK library loaded */
/* rte_eal_init() with these arguments (argv[0] included), once per process. The caller's
 * CPU affinity is kept. 0 or negative errno; -EALREADY when it already ran. */
int eal_init(int argc, char **argv);
int eal_running(void);
/* One thread at a time sets ports up or takes them down. While it holds the lock, the first
 * line that DPDK logs on its behalf lands in `log` (REASON_SIZE bytes, emptied by the caller);
 * with NULL it goes to stderr like everything else. */
void eal_lock(char *log);
void eal_unlock(void);
/* From here to eal_thread_end() the calling thread has a cache of its own on every mbuf pool, as
 * DPDK's own threads do; without one each burst goes to the pool's shared ring, and a driver costs
 * several times as much (net_null: six). Needs nothing where EAL does not run. 0, or a negative
 * errno: it goes on without. */
int eal_thread_begin(void);
void eal_thread_end(void);

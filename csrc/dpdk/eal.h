#pragma once

/* EAL's state, shared by eal.c and port.c. For C only. */

enum { REASON_SIZE = 160 };

int eal_running(void);
/* One thread at a time sets ports up or takes them down. While it holds the lock, the first
 * line that DPDK logs on its behalf lands in `log` (REASON_SIZE bytes, emptied by the caller);
 * with NULL it goes to stderr like everything else. */
void eal_lock(char *log);
void eal_unlock(void);

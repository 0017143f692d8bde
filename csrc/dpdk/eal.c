#define _GNU_SOURCE     /* fopencookie, CPU affinity */
#include "dpdk/eal.h"
#include "source/source.h"
#include <errno.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_version.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* EAL starts once per process, for good. */

static pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER;
static int ran;
static _Thread_local char *said;    /* where this thread's log line goes, or NULL: stderr */

int eal_running(void)
{
    pthread_mutex_lock(&control);
    int running = ran;
    pthread_mutex_unlock(&control);
    return running;
}

void eal_lock(char *log)
{
    pthread_mutex_lock(&control);
    said = log;
}

void eal_unlock(void)
{
    said = NULL;
    pthread_mutex_unlock(&control);
}

const char *eal_version(void)
{
    const char *version = rte_version();
    return strncmp(version, "DPDK ", 5) == 0 ? version + 5 : version;
}

/* rte_log() flushes after each message, so this runs on the thread that logs. */
static ssize_t log_write(void *cookie, const char *text, size_t size)
{
    (void)cookie;
    if (said == NULL)
        return write(STDERR_FILENO, text, size);
    const char *end = memchr(text, '\n', size);
    if (said[0] == '\0')
        snprintf(said, REASON_SIZE, "%.*s", (int)(end != NULL ? end - text : (long)size), text);
    return (ssize_t)size;
}

static void take_log(void)
{
    FILE *log = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = log_write });
    if (log != NULL && rte_openlog_stream(log) != 0)
        fclose(log);
}

/* EAL permutes argv and keeps pointers into it: it gets a copy that stays. */
static char **argv_copy(int argc, char **argv)
{
    char **copy = calloc((size_t)argc + 1, sizeof *copy);
    for (int i = 0; copy != NULL && i < argc; i++)
        copy[i] = strdup(argv[i]);
    return copy;
}

static int start_eal(int argc, char **argv)
{
    cpu_set_t cpus;
    char **kept = argv_copy(argc, argv);
    if (kept == NULL)
        return -ENOMEM;
    int known = sched_getaffinity(0, sizeof cpus, &cpus) == 0;
    int rc = rte_eal_init(argc, kept);
    int error = rte_errno;
    if (known)      /* EAL pins the thread that starts it */
        sched_setaffinity(0, sizeof cpus, &cpus);
    fflush(stdout);     /* whoever captures fd 1 has now all that EAL printed */
    if (rc < 0)
        return error > 0 ? -error : -EINVAL;
    take_log();
    return 0;
}

int eal_init(int argc, char **argv)
{
    eal_lock(NULL);
    int rc = ran ? -EALREADY : start_eal(argc, argv);
    ran |= rc == 0;
    eal_unlock();
    return rc;
}

static _Thread_local int registered;

int eal_thread_begin(void)
{
    if (!eal_running() || rte_lcore_id() != LCORE_ID_ANY)
        return 0;
    if (rte_thread_register() < 0)
        return -rte_errno;
    registered = 1;
    return 0;
}

void eal_thread_end(void)
{
    if (registered)
        rte_thread_unregister();
    registered = 0;
}

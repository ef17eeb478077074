/* A pool of threads. The caller and its workers take the parts of a task one after the other: where other programs keep
 * the workers from running, the caller does more of them. What a part computes does not depend on who does it.
 *
 * Workers are made when they are first needed. After a task each looks out for the next one for some microseconds,
 * because the tasks of a training follow each other closely; then it sleeps, and leaves its core to other programs. If
 * two threads call at the same time, the second does all parts itself. A forked process has no workers, and makes its
 * own. */

#ifdef __APPLE__
#define _DARWIN_C_SOURCE
#else
#define _GNU_SOURCE
#endif
#include "threads.h"

#include <stdatomic.h>
#include <stdint.h>

#ifdef _WIN32
#include <windows.h>
typedef SRWLOCK Lock;
typedef CONDITION_VARIABLE Condition;
static void acquire(Lock *lock) { AcquireSRWLockExclusive(lock); }
static void release(Lock *lock) { ReleaseSRWLockExclusive(lock); }
static void sleep_on(Condition *condition, Lock *lock) { SleepConditionVariableSRW(condition, lock, INFINITE, 0); }
static void wake(Condition *condition) { WakeConditionVariable(condition); }
static void init_lock(Lock *lock) { InitializeSRWLock(lock); }
static void init_condition(Condition *condition) { InitializeConditionVariable(condition); }
#else
#include <pthread.h>
#include <signal.h>
typedef pthread_mutex_t Lock;
typedef pthread_cond_t Condition;
static void acquire(Lock *lock) { pthread_mutex_lock(lock); }
static void release(Lock *lock) { pthread_mutex_unlock(lock); }
static void sleep_on(Condition *condition, Lock *lock) { pthread_cond_wait(condition, lock); }
static void wake(Condition *condition) { pthread_cond_signal(condition); }
static void init_lock(Lock *lock) { pthread_mutex_init(lock, NULL); }
static void init_condition(Condition *condition) { pthread_cond_init(condition, NULL); }
#endif

enum {
    MOST_WORKERS = 1024,
    LOOKS = 4000, /* for what a thread waits for, before it sleeps */
    STACK_BYTES = 1 << 19,
};

/* Something that happens again and again, and that one thread waits for. */
typedef struct {
    _Alignas(64) atomic_uint count; /* how often it has happened */
    atomic_int is_asleep;           /* whether the thread that waits for it sleeps */
    Condition condition;
} Event;

static struct {
    atomic_int is_busy; /* with a task */
    int num_workers;    /* that exist; 0 before the first task of this process */
    Lock lock;          /* of all conditions */
    Event begun[MOST_WORKERS]; /* a task, for each worker */
    Event finished;            /* a part */
    atomic_ullong ticket;      /* the number of the task, how many parts it has, and the next one to take */
    _Atomic(Task *) task;
    _Atomic(void *) argument;
} pool;

/* 32, 16 and 16 bits. */
static unsigned long long first_ticket(unsigned number, int parts) {
    return (unsigned long long)number << 32 | (unsigned long long)parts << 16;
}

static void init_event(Event *event) {
    atomic_store(&event->count, 0);
    atomic_store(&event->is_asleep, 0);
    init_condition(&event->condition);
}

static void pause_a_little(void) {
#if defined __x86_64__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("isb"); /* `yield` does nothing on most */
#endif
}

/* Wait until it has happened more often than `seen` times. The waiting thread says that it sleeps before it looks a last
 * time, and the other counts before it looks whether that one sleeps: one of them sees the other. */
static void wait_for(Event *event, unsigned seen) {
    for (int look = 0; look < LOOKS; look++) {
        if (atomic_load(&event->count) != seen) return;
        pause_a_little();
    }
    acquire(&pool.lock);
    atomic_store(&event->is_asleep, 1);
    while (atomic_load(&event->count) == seen) sleep_on(&event->condition, &pool.lock);
    atomic_store(&event->is_asleep, 0);
    release(&pool.lock);
}

static void happens(Event *event) {
    atomic_fetch_add(&event->count, 1);
    if (atomic_load(&event->is_asleep)) {
        acquire(&pool.lock);
        wake(&event->condition);
        release(&pool.lock);
    }
}

/* Take parts of the task as long as there are any. A ticket that is still the same when it is changed is that of a part
 * which nobody has taken: until that is finished, task and argument stay as they are. */
static void work(void) {
    for (;;) {
        unsigned long long ticket = atomic_load(&pool.ticket);
        int parts = ticket >> 16 & 0xffff, part = ticket & 0xffff;
        if (part >= parts) return;
        Task *task = atomic_load(&pool.task);
        void *argument = atomic_load(&pool.argument);
        if (atomic_compare_exchange_strong(&pool.ticket, &ticket, ticket + 1)) {
            task(argument, part, parts);
            happens(&pool.finished);
        }
    }
}

#ifdef _WIN32
static DWORD WINAPI live(void *number) {
#else
static void *live(void *number) {
#endif
    int worker = (int)(intptr_t)number;
    for (unsigned seen = 0;; seen++) {
        wait_for(&pool.begun[worker], seen);
        work();
    }
    return 0;
}

/* Make one more worker, if the system allows it. */
static int make_worker(void) {
    void *number = (void *)(intptr_t)pool.num_workers;
    init_event(&pool.begun[pool.num_workers]);
#ifdef _WIN32
    HANDLE thread = CreateThread(NULL, STACK_BYTES, live, number, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    int is_made = thread != NULL;
    if (is_made) CloseHandle(thread);
#else
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
#ifdef __APPLE__
    pthread_attr_set_qos_class_np(&attributes, QOS_CLASS_USER_INITIATED, 0); /* on the fast cores */
#endif
    sigfillset(&all); /* signals are for the thread that Python expects them on */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int is_made = pthread_create(&thread, &attributes, live, number) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
#endif
    pool.num_workers += is_made;
    return is_made;
}

/* Begin with no workers but the caller: in a process that is new, or forked. */
static void reset(void) {
    pool.num_workers = 0;
    atomic_store(&pool.is_busy, 0);
}

static void begin(void) {
    init_lock(&pool.lock);
    init_event(&pool.finished);
#ifndef _WIN32
    static int is_registered;
    if (!is_registered) is_registered = pthread_atfork(NULL, NULL, reset) == 0;
#endif
    pool.num_workers = 1;
}

void run_parts(int parts, Task *task, void *argument) {
    if (parts == 1 || atomic_exchange(&pool.is_busy, 1)) {
        for (int part = 0; part < parts; part++) task(argument, part, parts);
        return;
    }
    if (pool.num_workers == 0) begin();
    while (pool.num_workers < parts && pool.num_workers < MOST_WORKERS && make_worker()) continue;
    unsigned finished = atomic_load(&pool.finished.count), all = finished + (unsigned)parts;
    atomic_store(&pool.task, task);
    atomic_store(&pool.argument, argument);
    atomic_store(&pool.ticket, first_ticket((unsigned)(atomic_load(&pool.ticket) >> 32) + 1, parts));
    for (int worker = 1; worker < parts && worker < pool.num_workers; worker++) happens(&pool.begun[worker]);
    work();
    while ((finished = atomic_load(&pool.finished.count)) != all) wait_for(&pool.finished, finished);
    atomic_store(&pool.is_busy, 0);
}

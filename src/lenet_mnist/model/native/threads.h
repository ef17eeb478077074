/* A few threads that wait for work: parts of one task, shared out in a fixed way. */

#pragma once

/* Work on part `part` of `parts` of a task. */
typedef void Task(void *argument, int part, int parts);

/* Call task(argument, part, parts) for each part, some at the same time, and return when all are done. */
void run_parts(int parts, Task *task, void *argument);

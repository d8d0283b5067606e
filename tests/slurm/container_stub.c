/* A Slurm plugin with pyxis' options, and no containers: srun and sbatch accept them, each task is
   written down, and runs where it would have run without.
   gcc -shared -fPIC container_stub.c -o container_stub.so; plugstack.conf: required FILE.so log=FILE */
#include <fcntl.h>
#include <slurm/slurm.h>
#include <slurm/spank.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SPANK_PLUGIN(container_stub, 1)

static struct { const char *name, *arginfo; char *value; } options[] = {
    {"container-image", "IMAGE", 0},
    {"container-mounts", "SRC:DST[:FLAGS],...", 0},
    {"container-workdir", "PATH", 0},
    {"container-name", "NAME", 0},
    {"container-save", "PATH", 0},
    {"container-env", "NAME,...", 0},
    {"container-mount-home", 0, 0},
    {"no-container-mount-home", 0, 0},
    {"container-remap-root", 0, 0},
    {"no-container-remap-root", 0, 0},
    {"container-entrypoint", 0, 0},
    {"no-container-entrypoint", 0, 0},
    {"container-writable", 0, 0},
    {"container-readonly", 0, 0},
};
enum { COUNT = sizeof options / sizeof *options, WORKDIR = 2 };

static int keep(int index, const char *argument, int remote) {
    (void)remote;
    options[index].value = strdup(options[index].arginfo ? argument : "yes");
    return 0;
}

int slurm_spank_init(spank_t spank, int argc, char **argv) {
    (void)argc, (void)argv;
    for (int i = 0; i < COUNT; i++) {
        struct spank_option option = {(char *)options[i].name, (char *)options[i].arginfo,
                                      "[container stub]", options[i].arginfo != NULL, i, keep};
        if (spank_option_register(spank, &option) != ESPANK_SUCCESS) return -1;
    }
    return 0;
}

/* One line a task, in one write: tasks of several nodes append to the same file. */
int slurm_spank_task_init(spank_t spank, int argc, char **argv) {
    char node[256] = "", *line = NULL;
    uint32_t job = 0, step = 0, rank = 0;
    size_t size = 0;
    int asked = 0;
    FILE *out = open_memstream(&line, &size);
    if (!out) return -1;
    spank_getenv(spank, "SLURMD_NODENAME", node, sizeof node);
    spank_get_item(spank, S_JOB_ID, &job);
    spank_get_item(spank, S_JOB_STEPID, &step);
    spank_get_item(spank, S_TASK_GLOBAL_ID, &rank);
    fprintf(out, "node=%s\tjob=%u\tstep=", node, job);
    fprintf(out, step == SLURM_BATCH_SCRIPT ? "batch" : "%u", step);
    fprintf(out, "\trank=%u", rank);
    for (int i = 0; i < COUNT; i++)
        if (options[i].value) {
            asked = 1;
            fprintf(out, "\t%s=%s", options[i].name, options[i].value);
        }
    fputc('\n', out);
    fclose(out);
    for (int i = 0; asked && i < argc; i++)
        if (!strncmp(argv[i], "log=", 4)) {
            int fd = open(argv[i] + 4, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
            if (fd < 0 || write(fd, line, size) != (ssize_t)size) slurm_error("container stub: log");
            if (fd >= 0) close(fd);
        }
    free(line);
    if (options[WORKDIR].value && chdir(options[WORKDIR].value)) {
        slurm_error("container stub: chdir %s", options[WORKDIR].value);
        return -1;
    }
    return 0;
}

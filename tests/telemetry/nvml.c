/* A driver's library for tests: what nvidia-ml-py calls, answering what a test has set.
 * Every reading of a counter makes it grow, so that a difference is exact whatever the clock says. */
#include <stdlib.h>

enum { GPUS = 8, SUCCESS = 0, INVALID_ARGUMENT = 2 };

int init_result, energy_result, power_result;
unsigned count = 2, step_mj = 50000, power_mw = 300000;
static unsigned long long energy_mj[GPUS];

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *refused = getenv("NVML_ENERGY_RESULT");
    if (refused) energy_result = atoi(refused);
    return init_result;
}

int nvmlDeviceGetCount_v2(unsigned *found) {
    *found = count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index >= count) return INVALID_ARGUMENT;
    *device = &energy_mj[index];
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *found) {
    unsigned long long *counter = device;
    *found = *counter += step_mj * (unsigned)(counter - energy_mj + 1);
    return energy_result;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *found) {
    (void)device;
    *found = power_mw;
    return power_result;
}

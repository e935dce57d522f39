/* A stand-in for libnvidia-ml.so.1 that answers from a text file, for tests of the real nvidia-ml-py.
 *
 * The file is named by NAMEPLATE_NVML_SCENARIO and read again for every figure, so that a test may change it
 * midway. Lines are `key = value`, `#` starts a comment, of equal keys the last line counts:
 *
 *   driver = 550.90.07            what no GPU has of its own; also cuda_driver (12040) and count
 *   gpu.3.name = …                GPU 3's; gpu.*.name = … of any that has no line of its own
 *   gpu.3.slice.0.name = …        of a MIG slice (gpu.3.slice.*, gpu.*.slice.* likewise); a slice inherits nothing
 *   gpu.*.field.186 = 250000      a field value; with a point in it, it is a double
 *   … = 1000 +50                  grows by 50 with each time it is read; +50/s: with each second
 *   … = 34 @2 71 @5.5 85          34 until 2 s after the library was loaded, then 71, and 85 after 5.5 s;
 *                                 where nothing stands before the first @, there is no value until then
 *   … = error 15                  this error instead; no value, or no line, is error 3, not supported
 *   gpu.0.processes = 77:1024 78: self:512    process ids with bytes (none: not available); self is the parent's
 *   call.nvmlDeviceGetName = hang             or crash, wait 0.2 (seconds), print (to standard output),
 *                                             error N; gpu.3.call.… of one
 *   call.nvmlDeviceGetName = hang after 20    from its 21st call on
 *   call.load = hang                          while it is being loaded, when Python can run no thread
 *   gpu.3.xids = 79 94            Xid errors, each delivered once to an event set that was registered before it
 *   gpu.*.links = 12              links of NVLink; gpu.*.nvlink.0 = 5 of the first of nvmlNvLinkErrorCounter_t
 *   gpu.3.lost_after = 20         every further call on it says that the GPU is lost
 *
 * In texts {n} and {s} stand for the GPU's and the slice's number. Which functions exist at all is the build's
 * matter: see build.py. Signatures and layouts are those of nvml.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MOST_GPUS 16
#define MOST_SLICES 8

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       TIMEOUT = 10, IS_LOST = 15 };

typedef int Return;
typedef struct { int gpu, slice; } Handle; /* slice: -1 for a card */
typedef Handle *Device;

static Handle handles[MOST_GPUS][MOST_SLICES + 1]; /* 0: the card */
static long calls[MOST_GPUS];

static Device handle_of(int gpu, int slice) {
    Device device = &handles[gpu][slice + 1];
    device->gpu = gpu;
    device->slice = slice;
    return device;
}

static double clock_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
static double loaded_s;

/* ---- the file ---- */

static char *trimmed(char *text) {
    while (*text == ' ' || *text == '\t') text++;
    char *end = text + strlen(text);
    while (end > text && strchr(" \t\r\n", end[-1])) *--end = 0;
    return text;
}

/* Of "34 @2 71 @5.5 85", what counts now. */
static void keep_current(char *value) {
    double elapsed_s = clock_s() - loaded_s;
    char *current = value, *next = strchr(value, '@');
    while (next) {
        char *rest;
        double from_s;
        *next = 0;
        from_s = strtod(next + 1, &rest);
        next = strchr(rest, '@');
        if (elapsed_s >= from_s) current = rest;
    }
    current = trimmed(current);
    memmove(value, current, strlen(current) + 1);
}

/* The value of exactly this key, into 1024 bytes. */
static int line_of(const char *key, char *value) {
    const char *path = getenv("NAMEPLATE_NVML_SCENARIO");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024];
    int found = 0;
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        char *comment = strchr(line, '#'), *equals;
        if (comment) *comment = 0;
        equals = strchr(line, '=');
        if (!equals) continue;
        *equals = 0;
        if (strcmp(trimmed(line), key)) continue;
        strcpy(value, trimmed(equals + 1));
        found = 1;
    }
    fclose(file);
    if (found) keep_current(value);
    return found;
}

/* The value of a name for a handle, from the most special line to the most general; NULL: of no GPU. */
static int value_of(Device device, const char *name, char *value) {
    char key[256];
    if (!device) return line_of(name, value);
    if (device->slice < 0) {
        snprintf(key, sizeof key, "gpu.%d.%s", device->gpu, name);
        if (line_of(key, value)) return 1;
        snprintf(key, sizeof key, "gpu.*.%s", name);
        return line_of(key, value);
    }
    snprintf(key, sizeof key, "gpu.%d.slice.%d.%s", device->gpu, device->slice, name);
    if (line_of(key, value)) return 1;
    snprintf(key, sizeof key, "gpu.%d.slice.*.%s", device->gpu, name);
    if (line_of(key, value)) return 1;
    snprintf(key, sizeof key, "gpu.*.slice.*.%s", name);
    return line_of(key, value);
}

/* The value, or the error that stands in its place. */
static Return fetch(Device device, const char *name, char *value) {
    if (!value_of(device, name, value) || !*value) return NOT_SUPPORTED;
    if (!strncmp(value, "error ", 6)) return atoi(value + 6);
    return OK;
}

static unsigned long long times_read(Device device, const char *name) {
    static struct { Device device; char name[80]; unsigned long long times; } read[512];
    for (int i = 0; i < 512; i++) {
        if (!read[i].name[0]) {
            snprintf(read[i].name, sizeof read[i].name, "%s", name);
            read[i].device = device;
        }
        if (read[i].device == device && !strcmp(read[i].name, name)) return read[i].times++;
    }
    return 0;
}

static Return number(Device device, const char *name, unsigned long long *into) {
    char value[1024], *rest;
    Return error = fetch(device, name, value);
    if (error) return error;
    *into = strtoull(value, &rest, 0);
    rest = trimmed(rest);
    if (*rest == '+') {
        unsigned long long step = strtoull(rest + 1, &rest, 0);
        if (strncmp(rest, "/s", 2)) *into += step * times_read(device, name);
        else *into += (unsigned long long)((double)step * (clock_s() - loaded_s));
    }
    return OK;
}

static Return small(Device device, const char *name, unsigned int *into) {
    unsigned long long wide;
    Return error = number(device, name, &wide);
    if (!error) *into = (unsigned int)wide;
    return error;
}

static Return text(Device device, const char *name, char *into, unsigned int size) {
    char value[1024], *out = into;
    Return error = fetch(device, name, value);
    if (error) return error;
    for (const char *at = value; *at && out + 12 < into + size; at++) {
        if (!strncmp(at, "{n}", 3) || !strncmp(at, "{s}", 3)) {
            out += sprintf(out, "%d", at[1] == 'n' ? device->gpu : device->slice);
            at += 2;
        } else {
            *out++ = *at;
        }
    }
    *out = 0;
    return OK;
}

/* ---- what a call does before it answers ---- */

static Return misbehave(Device device, const char *function) {
    char name[128], value[1024], *after;
    snprintf(name, sizeof name, "call.%s", function);
    if (!value_of(device, name, value) && !line_of(name, value)) return OK;
    after = strstr(value, " after ");
    if (after && times_read(device, name) < strtoull(after + 7, NULL, 0)) return OK;
    if (after) *after = 0;
    if (!strcmp(value, "hang")) for (;;) pause();
    if (!strcmp(value, "crash")) abort();
    if (!strncmp(value, "wait ", 5)) usleep((useconds_t)(atof(value + 5) * 1e6));
    if (!strcmp(value, "print")) { printf("a driver's own words\n"); fflush(stdout); }
    return strncmp(value, "error ", 6) ? OK : atoi(value + 6);
}

static Return enter(Device device, const char *function) {
    unsigned long long most;
    Return error = misbehave(device, function);
    if (error) return error;
    if (device && !number(handle_of(device->gpu, -1), "lost_after", &most) && (unsigned long long)calls[device->gpu]++ >= most)
        return IS_LOST;
    return OK;
}

#define ENTER(device)                                  \
    do {                                               \
        Return entered = enter((device), __func__);    \
        if (entered) return entered;                   \
    } while (0)

/* ---- the whole library ---- */

static Return started(const char *function) { return enter(NULL, function); }

__attribute__((constructor)) static void load(void) {
    loaded_s = clock_s();
    (void)started(__func__);
}

EXPORT Return nvmlInitWithFlags(unsigned int flags) { (void)flags; return started(__func__); }
EXPORT Return nvmlInit_v2(void) { return started(__func__); }
EXPORT Return nvmlShutdown(void) { return started(__func__); }
EXPORT const char *nvmlErrorString(Return error) { (void)error; return "an error of the stub"; }

EXPORT Return nvmlSystemGetDriverVersion(char *version, unsigned int size) {
    ENTER(NULL);
    return text(NULL, "driver", version, size);
}
EXPORT Return nvmlSystemGetCudaDriverVersion(int *version) { ENTER(NULL); return small(NULL, "cuda_driver", (unsigned int *)version); }
EXPORT Return nvmlSystemGetCudaDriverVersion_v2(int *version) { ENTER(NULL); return small(NULL, "cuda_driver", (unsigned int *)version); }

EXPORT Return nvmlDeviceGetCount_v2(unsigned int *count) { ENTER(NULL); return small(NULL, "count", count); }

static unsigned int gpu_count(void) {
    unsigned int count = 0;
    small(NULL, "count", &count);
    return count < MOST_GPUS ? count : MOST_GPUS;
}
static unsigned int slice_count(int gpu) {
    unsigned int slices = 0;
    small(handle_of(gpu, -1), "slices", &slices);
    return slices < MOST_SLICES ? slices : MOST_SLICES;
}

EXPORT Return nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device *device) {
    if (index >= gpu_count()) return INVALID_ARGUMENT;
    ENTER(handle_of((int)index, -1));
    *device = handle_of((int)index, -1);
    return OK;
}
EXPORT Return nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    char own[128];
    ENTER(NULL);
    for (int gpu = 0; gpu < (int)gpu_count(); gpu++)
        for (int slice = -1; slice < (int)slice_count(gpu); slice++)
            if (!text(handle_of(gpu, slice), "uuid", own, sizeof own) && !strcmp(own, uuid)) {
                ENTER(handle_of(gpu, -1)); /* initialises the card that it finds */
                *device = handle_of(gpu, slice);
                return OK;
            }
    return NOT_FOUND;
}

EXPORT Return nvmlDeviceGetIndex(Device device, unsigned int *index) {
    ENTER(device);
    *index = (unsigned int)(device->slice < 0 ? device->gpu : device->slice);
    return OK;
}

/* ---- one figure of one GPU: by text, by number, by clock ---- */

#define TEXT(function, name) \
    EXPORT Return function(Device device, char *into, unsigned int size) { ENTER(device); return text(device, name, into, size); }
#define NUMBER(function, name) \
    EXPORT Return function(Device device, unsigned int *into) { ENTER(device); return small(device, name, into); }
#define WIDE(function, name) \
    EXPORT Return function(Device device, unsigned long long *into) { ENTER(device); return number(device, name, into); }
#define MODE(function, name)                                                            \
    EXPORT Return function(Device device, unsigned int *current, unsigned int *pending) { \
        ENTER(device);                                                                  \
        *pending = 0;                                                                   \
        return small(device, name, current);                                            \
    }

TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetSerial, "serial")
TEXT(nvmlDeviceGetVbiosVersion, "vbios")
NUMBER(nvmlDeviceGetNumGpuCores, "cores")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "default_power_limit_mw")
NUMBER(nvmlDeviceGetPersistenceMode, "persistence_mode")
MODE(nvmlDeviceGetEccMode, "ecc_mode")
MODE(nvmlDeviceGetMigMode, "mig_mode")
NUMBER(nvmlDeviceGetComputeMode, "compute_mode")
NUMBER(nvmlDeviceGetVirtualizationMode, "virtualization_mode")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "max_pcie_generation")
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "max_pcie_width")
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation")
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
NUMBER(nvmlDeviceGetNumaNodeId, "numa_node")
NUMBER(nvmlDeviceGetPowerUsage, "power_mw")
NUMBER(nvmlDeviceGetPcieReplayCounter, "pcie_replays")
WIDE(nvmlDeviceGetTotalEnergyConsumption, "energy_mj")
WIDE(nvmlDeviceGetCurrentClocksEventReasons, "clock_event_reasons")
WIDE(nvmlDeviceGetCurrentClocksThrottleReasons, "clock_event_reasons")

static Return clock_of(Device device, unsigned int kind, const char *prefix, unsigned int *into) {
    static const char *kinds[] = {"graphics", "sm", "memory", "video"};
    char name[64];
    if (kind > 3) return INVALID_ARGUMENT;
    snprintf(name, sizeof name, "%s%s_clock_mhz", prefix, kinds[kind]);
    return small(device, name, into);
}
EXPORT Return nvmlDeviceGetClockInfo(Device device, unsigned int kind, unsigned int *into) { ENTER(device); return clock_of(device, kind, "", into); }
EXPORT Return nvmlDeviceGetMaxClockInfo(Device device, unsigned int kind, unsigned int *into) { ENTER(device); return clock_of(device, kind, "max_", into); }
EXPORT Return nvmlDeviceGetClock(Device device, unsigned int kind, unsigned int id, unsigned int *into) {
    ENTER(device);
    return id ? INVALID_ARGUMENT : clock_of(device, kind, "", into);
}

EXPORT Return nvmlDeviceGetTemperature(Device device, unsigned int sensor, unsigned int *into) {
    ENTER(device);
    return sensor ? INVALID_ARGUMENT : small(device, "temperature_c", into);
}
typedef struct { unsigned int version, sensor; int temperature; } Temperature;
EXPORT Return nvmlDeviceGetTemperatureV(Device device, Temperature *into) {
    ENTER(device);
    if (into->version != (sizeof(Temperature) | 1u << 24)) return 25; /* NVML_ERROR_ARGUMENT_VERSION_MISMATCH */
    return into->sensor ? INVALID_ARGUMENT : small(device, "temperature_c", (unsigned int *)&into->temperature);
}

EXPORT Return nvmlDeviceGetTotalEccErrors(Device device, unsigned int error, unsigned int counter, unsigned long long *into) {
    ENTER(device);
    if (error > 1 || counter > 1) return INVALID_ARGUMENT;
    return error == 1 && counter == 0 ? number(device, "ecc_uncorrected", into) : NOT_SUPPORTED;
}
EXPORT Return nvmlDeviceGetRemappedRows(Device device, unsigned int *correctable, unsigned int *uncorrectable,
                                        unsigned int *pending, unsigned int *failed) {
    Return error;
    ENTER(device);
    if ((error = small(device, "remapped_rows_correctable", correctable))) return error;
    if ((error = small(device, "remapped_rows_uncorrectable", uncorrectable))) return error;
    if ((error = small(device, "remapping_pending", pending))) return error;
    return small(device, "remapping_failed", failed);
}

/* ---- events and links ---- */

typedef struct { unsigned char watched[MOST_GPUS], delivered[MOST_GPUS]; } EventSet;
typedef EventSet *Events;
typedef struct { Device device; unsigned long long type, data; unsigned int gpu_instance, compute_instance; } Event;
enum { XID = 8 };

static unsigned int xids_of(int gpu, unsigned int place, unsigned long long *into) {
    char value[1024], *rest = NULL;
    unsigned int found = 0;
    if (!value_of(handle_of(gpu, -1), "xids", value)) return 0;
    for (char *word = strtok_r(value, " ", &rest); word; word = strtok_r(NULL, " ", &rest), found++)
        if (found == place) *into = strtoull(word, NULL, 0);
    return found;
}
EXPORT Return nvmlEventSetCreate(Events *events) {
    ENTER(NULL);
    *events = calloc(1, sizeof **events);
    return OK;
}
EXPORT Return nvmlEventSetFree(Events events) {
    ENTER(NULL);
    free(events);
    return OK;
}
EXPORT Return nvmlDeviceRegisterEvents(Device device, unsigned long long types, Events events) {
    unsigned long long ignored;
    ENTER(device);
    if (device->slice >= 0 || types != XID) return INVALID_ARGUMENT;
    events->watched[device->gpu] = 1;
    events->delivered[device->gpu] = (unsigned char)xids_of(device->gpu, ~0u, &ignored); /* the past isn't told */
    return OK;
}
EXPORT Return nvmlEventSetWait_v2(Events events, Event *into, unsigned int timeout_ms) {
    (void)timeout_ms;
    ENTER(NULL);
    for (int gpu = 0; gpu < MOST_GPUS; gpu++) {
        if (!events->watched[gpu] || xids_of(gpu, events->delivered[gpu], &into->data) <= events->delivered[gpu]) continue;
        events->delivered[gpu]++;
        into->device = handle_of(gpu, -1);
        into->type = XID;
        return OK;
    }
    return TIMEOUT;
}

EXPORT Return nvmlDeviceGetNvLinkState(Device device, unsigned int link, unsigned int *is_up) {
    unsigned long long links;
    Return error;
    ENTER(device);
    if ((error = number(device, "links", &links))) return error;
    *is_up = 1;
    return link < links ? OK : INVALID_ARGUMENT;
}
EXPORT Return nvmlDeviceGetNvLinkErrorCounter(Device device, unsigned int link, unsigned int kind, unsigned long long *into) {
    char name[32];
    ENTER(device);
    (void)link;
    snprintf(name, sizeof name, "nvlink.%u", kind);
    return number(device, name, into);
}

/* ---- structures ---- */

typedef struct {
    char legacy_bus_id[16];
    unsigned int domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} Pci;
EXPORT Return nvmlDeviceGetPciInfo_v3(Device device, Pci *into) {
    Return error;
    ENTER(device);
    memset(into, 0, sizeof *into);
    if ((error = text(device, "pci_bus_id", into->bus_id, sizeof into->bus_id))) return error;
    if ((error = small(device, "pci_device_id", &into->device_id))) return error;
    return small(device, "pci_subsystem_id", &into->subsystem_id);
}

typedef struct { unsigned long long total, free, used; } Memory;
EXPORT Return nvmlDeviceGetMemoryInfo(Device device, Memory *into) {
    Return error;
    ENTER(device);
    if ((error = number(device, "memory_bytes", &into->total))) return error;
    if ((error = number(device, "memory_used_bytes", &into->used))) return error;
    into->free = into->total - into->used;
    return OK;
}

// Without what the driver reserves, which the first version counts as used.
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } Memory2;
EXPORT Return nvmlDeviceGetMemoryInfo_v2(Device device, Memory2 *into) {
    Return error;
    ENTER(device);
    if (into->version != (sizeof *into | 2 << 24)) return INVALID_ARGUMENT;
    if ((error = number(device, "memory_bytes", &into->total))) return error;
    if ((error = number(device, "memory_used_bytes", &into->used))) return error;
    into->reserved = 512ULL << 20;
    into->used -= into->used < into->reserved ? into->used : into->reserved;
    into->free = into->total - into->used - into->reserved;
    return OK;
}

typedef struct { unsigned int gpu, memory; } Utilization;
EXPORT Return nvmlDeviceGetUtilizationRates(Device device, Utilization *into) {
    Return error;
    ENTER(device);
    if ((error = small(device, "gpu_utilization", &into->gpu))) return error;
    return small(device, "memory_utilization", &into->memory);
}

typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } Process;
static Return processes(Device device, unsigned int *count, Process *into) {
    char value[1024], *rest = NULL;
    unsigned int found = 0, room = *count;
    Return error;
    if (!value_of(device, "processes", value)) return NOT_SUPPORTED;
    if (!strncmp(value, "error ", 6)) { error = atoi(value + 6); return error; }
    for (char *word = strtok_r(value, " ", &rest); word; word = strtok_r(NULL, " ", &rest), found++) {
        char *bytes = strchr(word, ':');
        if (!into || found >= room) continue;
        memset(&into[found], 0, sizeof into[found]);
        into[found].pid = strncmp(word, "self", 4) ? (unsigned int)atoi(word) : (unsigned int)getppid();
        into[found].used = bytes && bytes[1] ? strtoull(bytes + 1, NULL, 0) : ~0ULL;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}
EXPORT Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned int *count, Process *into) {
    ENTER(device);
    return processes(device, count, into);
}
EXPORT Return nvmlDeviceGetComputeRunningProcesses_v2(Device device, unsigned int *count, Process *into) {
    ENTER(device);
    return processes(device, count, into);
}

typedef union { double d; unsigned int ui; unsigned long ul; unsigned long long ull; long long sll; } Value;
typedef struct {
    unsigned int id, scope;
    long long timestamp, latency;
    unsigned int type;
    Return error;
    Value value;
} Field;
/* nvmlValueType_t: 0 double, 1 unsigned int, 3 unsigned long long. */
static void answer_field(Device device, Field *field) {
    char name[32], value[1024];
    unsigned long long wide;
    snprintf(name, sizeof name, "field.%u", field->id);
    memset(&field->value, 0xff, sizeof field->value); /* what isn't set is garbage */
    field->error = fetch(device, name, value);
    if (field->error) return;
    number(device, name, &wide);
    if (strchr(value, '.')) {
        field->type = 0;
        field->value.d = atof(value);
    } else if (field->id == 82 || field->id == 185 || field->id == 186 || field->id == 230) {
        field->type = 1;
        field->value.ui = (unsigned int)wide;
    } else {
        field->type = 3;
        field->value.ull = wide;
    }
}
EXPORT Return nvmlDeviceGetFieldValues(Device device, int count, Field *fields) {
    ENTER(device);
    for (int i = 0; i < count; i++) answer_field(device, &fields[i]);
    return OK;
}

/* ---- MIG ---- */

EXPORT Return nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned int *count) {
    (void)device;
    ENTER(device);
    *count = MOST_SLICES;
    return OK;
}
EXPORT Return nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned int index, Device *slice) {
    ENTER(device);
    if (index >= slice_count(device->gpu)) return NOT_FOUND;
    *slice = handle_of(device->gpu, (int)index);
    return OK;
}
EXPORT Return nvmlDeviceIsMigDeviceHandle(Device device, unsigned int *is_slice) {
    ENTER(device);
    *is_slice = device->slice >= 0;
    return OK;
}
EXPORT Return nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device device, Device *card) {
    ENTER(device);
    *card = handle_of(device->gpu, -1);
    return OK;
}

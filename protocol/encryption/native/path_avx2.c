#include "kernel.h"

#if KERNEL_X86
#define PATH path_avx2
#define PATH_NAME "avx2"
#include "lanes_avx2.h"

#include "path.h"
#endif

#include "kernel.h"

#if KERNEL_X86
#define PATH path_ifma
#define PATH_NAME "ifma"
#include "lanes_ifma.h"

#include "path.h"
#endif

/* For wine older than 8.8, which has no bcryptprimitives.dll. Rust's standard library takes its randomness from there.
   Built by deploy/test-windows and put beside the tests; no Windows needs it. */
#include <windows.h>

/* RtlGenRandom: wine takes it from the kernel's own generator. */
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length) {
    while (length > 0) {
        ULONG part = length > 0x10000000 ? 0x10000000 : (ULONG)length;
        if (!SystemFunction036(buffer, part)) return FALSE;
        buffer += part;
        length -= part;
    }
    return TRUE;
}

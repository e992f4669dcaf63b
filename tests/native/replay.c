/* SPDX-License-Identifier: Apache-2.0
 *
 * The fuzz target without libFuzzer, for compilers that have none and for processors that are
 * emulated: replay FILE..., or replay show FILE... to see the calls from Python as well.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int shows_all;
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int main(int n, char **names)
{
    static uint8_t bytes[1 << 16];
    shows_all = n > 1 && strcmp(names[1], "show") == 0;
    for (int k = 1 + shows_all; k < n; ++k) {
        FILE *file = fopen(names[k], "rb");
        if (!file) {
            fprintf(stderr, "%s cannot be read\n", names[k]);
            return EXIT_FAILURE;
        }
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    printf("%d inputs: the answers of the definition\n", n - 1 - shows_all);
    return EXIT_SUCCESS;
}

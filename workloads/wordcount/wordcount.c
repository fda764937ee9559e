// Counts the words of a text: a plain C program that reads standard input and writes standard output.
//
//   wordcount work     the text                        -> "word<TAB>count" lines, in the order of bytes
//   wordcount merge    results one after another       -> the same, with the counts of each word added
//
// A word is a run of ASCII letters and of bytes of other scripts; ASCII capitals count as small letters.
// Try it where you are:  cc wordcount.c -o wordcount && ./wordcount work < README.md

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Says that results are to be merged by this program: it is then run with "merge".
#ifdef __wasi__
__attribute__((export_name("lull_merge"))) void lull_merge(void) {}
#endif

typedef struct {
    char *word;
    unsigned long long count;
} Entry;

static Entry *entries;
static size_t used, room;

static void fail(const char *problem, const char *where) {
    fprintf(stderr, "%s: %s\n", problem, where);
    exit(1);
}

static void add(const char *word, unsigned long long count) {
    if (used == room) {
        room = room ? 2 * room : 1024;
        entries = realloc(entries, room * sizeof *entries);
        if (!entries) fail("out of memory at", word);
    }
    entries[used].word = strdup(word);
    if (!entries[used].word) fail("out of memory at", word);
    entries[used++].count = count;
}

static int by_word(const void *a, const void *b) {
    return strcmp(((const Entry *)a)->word, ((const Entry *)b)->word);
}

static void count_words(char *line) {
    while (*line) {
        char *end = line;
        while (isalpha((unsigned char)*end) || (unsigned char)*end >= 0x80) {
            *end = (char)tolower((unsigned char)*end);
            end++;
        }
        if (end == line) {
            line++;
            continue;
        }
        char behind = *end;
        *end = 0;
        add(line, 1);
        *end = behind;
        line = end;
    }
}

static void read_count(char *line) {
    char *tab = strchr(line, '\t');
    char *end = NULL;
    unsigned long long count = tab ? strtoull(tab + 1, &end, 10) : 0;
    if (!tab || end == tab + 1 || *end != '\n') fail("not a line of word and count", line);
    *tab = 0;
    add(line, count);
}

int main(int argc, char **argv) {
    int is_merge = argc > 1 && strcmp(argv[1], "merge") == 0;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) >= 0) is_merge ? read_count(line) : count_words(line);

    qsort(entries, used, sizeof *entries, by_word);
    for (size_t i = 0; i < used;) {
        unsigned long long count = 0;
        size_t first = i;
        while (i < used && strcmp(entries[i].word, entries[first].word) == 0) count += entries[i++].count;
        printf("%s\t%llu\n", entries[first].word, count);
    }
    if (fflush(stdout) != 0 || ferror(stdin)) fail("cannot read or write", "standard streams");
    return 0;
}

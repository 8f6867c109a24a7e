/* As memory_reader.py: memory_reader REPORT LAST. Waits on the futex between publications after a burst of reads. */
#include "outrider_secrets.h"

#include <stdio.h>

static void take(const outrider_secrets *memory, const char *name, char *text, size_t room) {
  size_t length = 0;
  const void *value = outrider_secrets_find(memory, name, &length);
  if (!value || length >= room) length = 0;
  if (length) memcpy(text, value, length);
  text[length] = 0;
}

int main(int count, char **arguments) {
  outrider_secrets memory = OUTRIDER_SECRETS_NONE;
  char user[256], password[256], before[256] = "", path[4096], seen[4096] = "";
  long reads = 0, torn = 0, woken = 0;
  if (count != 3 || outrider_secrets_open(&memory) != 0) {
    perror("memory_reader");
    return 1;
  }
  snprintf(path, sizeof path, "%s.new", arguments[1]);
  for (int burst = 0;; burst++) {
    if (burst > 50000) {
      burst = 0;
      woken += outrider_secrets_wait(&memory, 5000);
    }
    if (outrider_secrets_read(&memory) != OUTRIDER_OK) continue;
    reads++;
    take(&memory, "db.user", user, sizeof user);
    take(&memory, "db.password", password, sizeof password);
    const char *one = strrchr(user, '-'), *other = strrchr(password, '-');
    if (!one || !other || strcmp(one, other) != 0) torn++;
    if (strcmp(before, password) != 0) {
      strcpy(before, password);
      snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s\"%s\"", *seen ? "," : "", password);
      FILE *out = fopen(path, "w");
      fprintf(out, "{\"reads\":%ld,\"torn\":%ld,\"woken\":%ld,\"seen\":[%s]}", reads, torn, woken, seen);
      fclose(out);
      rename(path, arguments[1]);
    }
    if (strcmp(password, arguments[2]) == 0) pause();
  }
}

package secrets

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestFollow prints every value of READER_FIELD until READER_LAST comes. Run by the scenario tests, under the sidecar.
func TestFollow(t *testing.T) {
	field, last := os.Getenv("READER_FIELD"), os.Getenv("READER_LAST")
	if field == "" {
		t.Skip("READER_FIELD is not set")
	}
	memory, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for {
		now, err := memory.Read()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("value", string(now.Values[field]))
		if string(now.Values[field]) == last {
			return
		}
		memory.Wait(time.Minute)
	}
}

package destination

import (
	"fmt"
	"testing"
)

// BenchmarkWrite writes sets of the size of an application's output. What it
// measures is mostly the disk's time for a sync.
func BenchmarkWrite(b *testing.B) {
	for _, mode := range updateModes {
		b.Run(string(mode), func(b *testing.B) {
			d := directory(b, b.TempDir(), update(mode))
			var names []string
			for i := range 12 {
				names = append(names, fmt.Sprint("file", i))
			}
			for i := 0; b.Loop(); i++ {
				write(b, d, setOf(fmt.Sprint(i), names...))
			}
		})
	}
}

// BenchmarkPrepare is what every renewal pays in advance.
func BenchmarkPrepare(b *testing.B) {
	d := directory(b, b.TempDir())
	for b.Loop() {
		if err := d.Prepare(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

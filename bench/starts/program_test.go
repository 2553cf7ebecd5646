package starts

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The least program runs and says that all is well.
func TestLeastProgramExits(t *testing.T) {
	text, err := least()
	if err != nil {
		t.Skip("needs code for this architecture: ", err)
	}
	file := filepath.Join(t.TempDir(), "exits")
	if err := os.WriteFile(file, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("it ended with %v and %q", err, out)
	}
}

// One for another machine cannot be run here, but read.
func TestLeastProgramOfEachMachine(t *testing.T) {
	for arch, of := range exits {
		text, err := leastFor(arch)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		p := f.Progs[0]
		if f.Machine != of.machine || p.Type != elf.PT_LOAD || p.Filesz != uint64(len(text)) || !bytes.HasSuffix(text, of.code) {
			t.Errorf("%s: %+v, %+v", arch, f.FileHeader, p.ProgHeader)
		}
		if at := p.Vaddr + p.Filesz - uint64(len(of.code)); f.Entry != at {
			t.Errorf("%s: it begins at %#x, and its code is at %#x", arch, f.Entry, at)
		}
	}
	if _, err := leastFor("vax"); err == nil {
		t.Error("there is a program for a machine that nobody has")
	}
}

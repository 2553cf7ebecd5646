package supervisor

import (
	"slices"
	"testing"
)

// TestSocketsAreInTheOrderOfTheService, with ten instances after nine.
func TestSocketsAreInTheOrderOfTheService(t *testing.T) {
	names := []string{"admin", "gone", "http@0", "http@1", "http@10", "http@2"}
	slices.SortStableFunc(names, inOrder([]string{"http", "admin"}))
	if want := []string{"http@0", "http@1", "http@2", "http@10", "admin", "gone"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

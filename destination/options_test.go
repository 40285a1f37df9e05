package destination

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestValidateFillsInDefaults(t *testing.T) {
	o := DirectoryOptions{Path: "/opt/machine-id"}
	require.NoError(t, o.Validate())
	require.Equal(t, DirectoryOptions{
		Path: "/opt/machine-id", Symlinks: SymlinksTrySecure, ACLs: ACLTry, Update: UpdateSet,
	}, o)
}

func TestValidateNamesTheField(t *testing.T) {
	for field, test := range map[string]struct {
		opts DirectoryOptions
		says string
	}{
		"path":     {DirectoryOptions{}, "is required"},
		"symlinks": {DirectoryOptions{Path: "a", Symlinks: "none"}, `is "none": use secure, try-secure or insecure`},
		"acls":     {DirectoryOptions{Path: "a", ACLs: "maybe"}, `is "maybe": use try, required or off`},
		"readers":  {DirectoryOptions{Path: "a", ACLs: ACLOff, Readers: []Reader{{User: "app"}}}, "need ACLs, and `acls: off` forbids them"},
		"update":   {DirectoryOptions{Path: "a", Update: "files"}, `is "files": use set, file or in-place`},

		"readers[0]": {DirectoryOptions{Path: "a", Readers: []Reader{{}}}, "names nobody"},
		"readers[1]": {DirectoryOptions{Path: "a", Readers: []Reader{{User: "a"}, {User: "a", Group: "a"}}}, "make two readers of it"},
		"readers[2]": {DirectoryOptions{Path: "a", Readers: []Reader{{User: "a"}, {Group: "a"}, {User: "a"}}}, "is there twice"},
	} {
		err := test.opts.Validate()
		var wrong *failure.FieldError
		require.ErrorAs(t, err, &wrong, field)
		require.Equal(t, field, wrong.Field)
		require.Contains(t, wrong.Message, test.says)
		_, err = NewDirectory(test.opts, slog.New(slog.DiscardHandler))
		require.Equal(t, failure.Configuration, failure.KindOf(err))
	}
}

func TestValidateReportsAllFields(t *testing.T) {
	o := DirectoryOptions{Symlinks: "x", ACLs: "y", Update: "z"}
	joined, ok := o.Validate().(interface{ Unwrap() []error })
	require.True(t, ok)
	require.Len(t, joined.Unwrap(), 4)
	require.False(t, errors.Is(o.Validate(), nil))
}

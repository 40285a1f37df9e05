package agent

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
)

// Where an agent's files are, inside its container; all of them beside the
// configuration.
const (
	tokenFile  = "rollcall-token"
	caFile     = "rollcall-ca.pem"
	recordFile = "rollcall.json"
)

// fileAt is the path of one of the files.
func (o *Options) fileAt(name string) string { return path.Join(path.Dir(o.ConfigPath), name) }

// teleportConfig is the agent's configuration file. JSON is YAML; rendering it
// needs no templates, and nothing in a name can break out of its place.
func teleportConfig(o *Options, node string, r resource.Resource) ([]byte, error) {
	spec, ok := r.Spec.(resource.AppSpec)
	if !ok {
		return nil, trace.BadParameter("%s isn't an application", r.Key())
	}
	type m = map[string]any
	app := m{
		"name": r.Name, "description": r.Description, "uri": spec.URI, "public_addr": spec.PublicAddr,
		"insecure_skip_verify": spec.InsecureSkipVerify, "labels": r.Labels,
	}
	if spec.Rewrite != nil {
		var headers []string
		for _, h := range spec.Rewrite.Headers {
			headers = append(headers, h.Name+": "+h.Value)
		}
		app["rewrite"] = m{"redirect": spec.Rewrite.Redirect, "headers": headers}
	}
	var commands []m
	for _, name := range slices.Sorted(maps.Keys(spec.DynamicLabels)) {
		label := spec.DynamicLabels[name]
		commands = append(commands, m{"name": name, "command": label.Command, "period": label.Period.String()})
	}
	if commands != nil {
		app["commands"] = commands
	}
	return json.MarshalIndent(m{
		"version": "v3",
		"teleport": m{
			"nodename":     node,
			"data_dir":     "/var/lib/teleport",
			"proxy_server": o.ProxyAddr,
			"join_params":  m{"method": "token", "token_name": o.fileAt(tokenFile)},
			"log":          m{"output": "stderr", "severity": "INFO"},
		},
		"auth_service":  m{"enabled": false},
		"proxy_service": m{"enabled": false},
		"ssh_service":   m{"enabled": false},
		"app_service":   m{"enabled": true, "apps": []m{app}},
	}, "", "  ")
}

// record is what an agent was started for, kept in its container: it's how it's
// known again after a crash. It can hold headers that are secrets, so it's a
// file and no label. Its form is its own: those of package resource are for
// people, who don't see secrets.
type record struct {
	Name               string                  `json:"name"`
	Description        string                  `json:"description,omitempty"`
	Labels             map[string]string       `json:"labels,omitempty"`
	URI                string                  `json:"uri"`
	PublicAddr         string                  `json:"public_addr,omitempty"`
	InsecureSkipVerify bool                    `json:"insecure_skip_verify,omitempty"`
	Headers            [][2]string             `json:"headers,omitempty"`
	Redirect           []string                `json:"redirect,omitempty"`
	Commands           map[string]commandLabel `json:"commands,omitempty"`
}

type commandLabel struct {
	Period  time.Duration `json:"period"`
	Command []string      `json:"command"`
}

func encodeRecord(r resource.Resource) ([]byte, error) {
	spec, ok := r.Spec.(resource.AppSpec)
	if !ok {
		return nil, trace.BadParameter("%s isn't an application", r.Key())
	}
	kept := record{
		Name: r.Name, Description: r.Description, Labels: r.Labels,
		URI: spec.URI, PublicAddr: spec.PublicAddr, InsecureSkipVerify: spec.InsecureSkipVerify,
	}
	if spec.Rewrite != nil {
		kept.Redirect = spec.Rewrite.Redirect
		for _, header := range spec.Rewrite.Headers {
			kept.Headers = append(kept.Headers, [2]string{header.Name, header.Value})
		}
	}
	for key, label := range spec.DynamicLabels {
		if kept.Commands == nil {
			kept.Commands = map[string]commandLabel{}
		}
		kept.Commands[key] = commandLabel{label.Period, label.Command}
	}
	return json.Marshal(kept)
}

func decodeRecord(content []byte) (resource.Resource, error) {
	var kept record
	if err := json.Unmarshal(content, &kept); err != nil {
		return resource.Resource{}, trace.BadParameter("it can't be read")
	}
	if kept.Name == "" {
		return resource.Resource{}, trace.BadParameter("it has no name")
	}
	spec := resource.AppSpec{URI: kept.URI, PublicAddr: kept.PublicAddr, InsecureSkipVerify: kept.InsecureSkipVerify}
	if len(kept.Headers) > 0 || len(kept.Redirect) > 0 {
		spec.Rewrite = &resource.Rewrite{Redirect: kept.Redirect}
		for _, header := range kept.Headers {
			spec.Rewrite.Headers = append(spec.Rewrite.Headers, resource.Header{Name: header[0], Value: header[1]})
		}
	}
	for key, label := range kept.Commands {
		if spec.DynamicLabels == nil {
			spec.DynamicLabels = map[string]resource.DynamicLabel{}
		}
		spec.DynamicLabels[key] = resource.DynamicLabel{Period: label.Period, Command: label.Command}
	}
	return resource.Resource{
		Kind: resource.KindApp, Name: kept.Name, Description: kept.Description, Labels: kept.Labels, Spec: spec,
	}, nil
}

// file is one that is put into a container.
type file struct {
	name    string // absolute
	content []byte
	mode    int64
}

// pack makes the archive that Docker unpacks at the container's root.
func pack(now time.Time, files ...file) ([]byte, error) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	made := map[string]bool{}
	for _, f := range files {
		if dir := strings.TrimPrefix(path.Dir(f.name), "/") + "/"; !made[dir] && dir != "/" {
			made[dir] = true
			if err := archive.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: now}); err != nil {
				return nil, trace.Wrap(err)
			}
		}
		header := &tar.Header{Name: strings.TrimPrefix(f.name, "/"), Typeflag: tar.TypeReg, Mode: f.mode, Size: int64(len(f.content)), ModTime: now}
		if err := archive.WriteHeader(header); err != nil {
			return nil, trace.Wrap(err)
		}
		if _, err := archive.Write(f.content); err != nil {
			return nil, trace.Wrap(err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, trace.Wrap(err)
	}
	return out.Bytes(), nil
}

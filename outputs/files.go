package outputs

// Names of files, as the official agent has them.
const (
	fileTLSCert    = "tlscert"
	fileKey        = "key"
	filePublicKey  = "key.pub"
	fileSSHCert    = "key-cert.pub"
	fileIdentity   = "identity"
	fileHostCA     = "teleport-host-ca.crt"
	fileUserCA     = "teleport-user-ca.crt"
	fileDatabaseCA = "teleport-database-ca.crt"

	// With specific_tls_naming.
	fileTLSNamedCert = "tls.crt"
	fileTLSNamedKey  = "tls.key"
	fileTLSNamedCAs  = "tls.cas"

	// For OpenSSH.
	fileSSHConfig  = "ssh_config"
	fileKnownHosts = "known_hosts"
)

// baseFiles returns the names that application, identity, database and
// kubernetes outputs have in common.
func baseFiles() []string {
	return []string{
		fileTLSCert, fileKey, filePublicKey, fileSSHCert, fileIdentity,
		fileHostCA, fileUserCA, fileDatabaseCA,
	}
}

// KnownFiles returns every name that an output of any type may write.
func KnownFiles() []string {
	return append(baseFiles(), fileTLSNamedCert, fileTLSNamedKey, fileTLSNamedCAs, fileSSHConfig, fileKnownHosts)
}

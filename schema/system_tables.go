package schema

// The definitions are those that Cassandra 5.0.8 shows to clients; testdata/cassandra/system.txt is the evidence.

func systemKeyspaces() []systemKeyspace {
	return []systemKeyspace{
		{name: SystemKeyspace, options: localOptions(0), tables: systemTables()},
		{name: SchemaKeyspace, options: localOptions(7 * 24 * 60 * 60), tables: schemaTables()},
		{name: AuthKeyspace, rf: 1, options: func(o *TableOptions) { o.GCGraceSeconds = 90 * 24 * 60 * 60 }, tables: authTables()},
		{name: DistributedKeyspace, rf: 3, tables: distributedTables()},
		{name: TracesKeyspace, rf: 2, stored: tracesGeneration, options: func(o *TableOptions) { o.GCGraceSeconds = 0 }, tables: tracesTables()},
		{name: ViewsKeyspace, virtual: true, tables: viewsTables()},
		{name: VirtualSchemaKeyspace, virtual: true, tables: virtualSchemaTables()},
	}
}

// tracesGeneration is that of system_traces.events; sessions has the next one.
const tracesGeneration Generation = 16

func localOptions(gcGraceSeconds int32) func(*TableOptions) {
	return func(o *TableOptions) {
		o.GCGraceSeconds = gcGraceSeconds
		o.MemtableFlushPeriodInMs = 60 * 60 * 1000
	}
}

// historyOptions are those of the repair history: kept for a month, in windows of a day.
func historyOptions(o *TableOptions) {
	o.DefaultTTL = 30 * 24 * 60 * 60
	o.Compaction = Map{{"class", compactionPackage + "TimeWindowCompactionStrategy"}, {"compaction_window_size", "1"},
		{"compaction_window_unit", "DAYS"}, {"max_threshold", "32"}, {"min_threshold", "4"}}
}

func systemTables() []systemTable {
	return []systemTable{
		{name: "IndexInfo", comment: "built column indexes",
			columns: "table_name text pk; index_name text ck; value blob"},
		{name: "available_ranges", comment: "available keyspace/ranges during bootstrap/replace that are ready to be served",
			columns: "keyspace_name text pk; ranges set<blob>"},
		{name: "available_ranges_v2", comment: "available keyspace/ranges during bootstrap/replace that are ready to be served",
			columns: "keyspace_name text pk; full_ranges set<blob>; transient_ranges set<blob>"},
		{name: "batches", comment: "batches awaiting replay",
			columns: "id timeuuid pk; mutations list<blob>; version int",
			options: func(o *TableOptions) {
				o.Compaction = Map{{"class", compactionPackage + "SizeTieredCompactionStrategy"}, {"max_threshold", "32"}, {"min_threshold", "2"}}
			}},
		{name: "built_views", comment: "built views",
			columns: "keyspace_name text pk; view_name text ck; status_replicated boolean"},
		{name: "compaction_history", comment: "week-long compaction history",
			columns: "id timeuuid pk; bytes_in bigint; bytes_out bigint; columnfamily_name text; compacted_at timestamp; " +
				"compaction_properties frozen<map<text, text>>; keyspace_name text; rows_merged map<int, bigint>",
			options: func(o *TableOptions) { o.DefaultTTL = 7 * 24 * 60 * 60 }},
		{name: "local", comment: "information about the local node",
			columns: "key text pk; bootstrapped text; broadcast_address inet; broadcast_port int; cluster_name text; cql_version " +
				"text; data_center text; gossip_generation int; host_id uuid; listen_address inet; listen_port int; " +
				"native_protocol_version text; partitioner text; rack text; release_version text; rpc_address inet; rpc_port " +
				"int; schema_version uuid; tokens set<text>; truncated_at map<uuid, blob>"},
		{name: "paxos", comment: "in-progress paxos proposals",
			columns: "row_key blob pk; cf_id uuid ck; in_progress_ballot timeuuid; in_progress_read_ballot timeuuid; " +
				"most_recent_commit blob; most_recent_commit_at timeuuid; most_recent_commit_version int; proposal blob; " +
				"proposal_ballot timeuuid; proposal_version int",
			options: func(o *TableOptions) {
				o.Compaction = Map{{"class", compactionPackage + "LeveledCompactionStrategy"}, {"max_threshold", "32"}, {"min_threshold", "4"}}
			}},
		{name: "paxos_repair_history", comment: "paxos repair history",
			columns: "keyspace_name text pk; table_name text ck; points frozen<list<frozen<tuple<blob, timeuuid>>>>"},
		{name: "peer_events", comment: "events related to peers",
			columns: "peer inet pk; hints_dropped map<timeuuid, int>"},
		{name: "peer_events_v2", comment: "events related to peers",
			columns: "peer inet pk; peer_port int ck; hints_dropped map<timeuuid, int>"},
		{name: "peers", comment: "information about known peers in the cluster",
			columns: "peer inet pk; data_center text; host_id uuid; preferred_ip inet; rack text; release_version text; rpc_address " +
				"inet; schema_version uuid; tokens set<text>"},
		{name: "peers_v2", comment: "information about known peers in the cluster",
			columns: "peer inet pk; peer_port int ck; data_center text; host_id uuid; native_address inet; native_port int; " +
				"preferred_ip inet; preferred_port int; rack text; release_version text; schema_version uuid; tokens set<text>"},
		{name: "prepared_statements", comment: "prepared statements",
			columns: "prepared_id blob pk; logged_keyspace text; query_string text"},
		{name: "repairs", comment: "repairs",
			columns: "parent_id timeuuid pk; cfids set<uuid>; coordinator inet; coordinator_port int; last_update timestamp; " +
				"participants set<inet>; participants_wp set<text>; ranges set<blob>; repaired_at timestamp; started_at " +
				"timestamp; state int"},
		{name: "size_estimates", comment: "per-table primary range size estimates, table is deprecated in favor of table_estimates",
			columns: "keyspace_name text pk; table_name text ck; range_start text ck; range_end text ck; mean_partition_size bigint; " +
				"partitions_count bigint"},
		{name: "sstable_activity", comment: "historic sstable read rates",
			columns: "keyspace_name text pk; columnfamily_name text pk; generation int pk; rate_120m double; rate_15m double"},
		{name: "sstable_activity_v2", comment: "historic sstable read rates",
			columns: "keyspace_name text pk; table_name text pk; id text pk; rate_120m double; rate_15m double"},
		{name: "table_estimates", comment: "per-table range size estimates",
			columns: "keyspace_name text pk; table_name text ck; range_type text ck; range_start text ck; range_end text ck; " +
				"mean_partition_size bigint; partitions_count bigint"},
		{name: "top_partitions", comment: "Stores the top partitions",
			columns: "keyspace_name text pk; table_name text ck; top_type text ck; last_update timestamp; top " +
				"frozen<list<frozen<tuple<text, bigint>>>>"},
		{name: "transferred_ranges", comment: "record of transferred ranges for streaming operation",
			columns: "operation text pk; keyspace_name text pk; peer inet ck; ranges set<blob>"},
		{name: "transferred_ranges_v2", comment: "record of transferred ranges for streaming operation",
			columns: "operation text pk; keyspace_name text pk; peer inet ck; peer_port int ck; ranges set<blob>"},
		{name: "view_builds_in_progress", comment: "views builds current progress",
			columns: "keyspace_name text pk; view_name text ck; start_token text ck; end_token text ck; keys_built bigint; " +
				"last_token text"},
	}
}

func schemaTables() []systemTable {
	return []systemTable{
		{name: "aggregates", comment: "user defined aggregate definitions",
			columns: "keyspace_name text pk; aggregate_name text ck; argument_types frozen<list<text>> ck; final_func text; initcond " +
				"text; return_type text; state_func text; state_type text"},
		{name: "column_masks", comment: "column dynamic data masks",
			columns: "keyspace_name text pk; table_name text ck; column_name text ck; function_argument_nulls frozen<list<boolean>>; " +
				"function_argument_types frozen<list<text>>; function_argument_values frozen<list<text>>; function_keyspace " +
				"text; function_name text"},
		{name: "columns", comment: "column definitions",
			columns: "keyspace_name text pk; table_name text ck; column_name text ck; clustering_order text; column_name_bytes blob; " +
				"kind text; position int; type text"},
		{name: "dropped_columns", comment: "dropped column registry",
			columns: "keyspace_name text pk; table_name text ck; column_name text ck; dropped_time timestamp; kind text; type text"},
		{name: "functions", comment: "user defined function definitions",
			columns: "keyspace_name text pk; function_name text ck; argument_types frozen<list<text>> ck; argument_names " +
				"frozen<list<text>>; body text; called_on_null_input boolean; language text; return_type text"},
		{name: "indexes", comment: "secondary index definitions",
			columns: "keyspace_name text pk; table_name text ck; index_name text ck; kind text; options frozen<map<text, text>>"},
		{name: "keyspaces", comment: "keyspace definitions",
			columns: "keyspace_name text pk; durable_writes boolean; replication frozen<map<text, text>>"},
		{name: "tables", comment: "table definitions",
			columns: "keyspace_name text pk; table_name text ck; additional_write_policy text; allow_auto_snapshot boolean; " +
				"bloom_filter_fp_chance double; caching frozen<map<text, text>>; cdc boolean; comment text; compaction " +
				"frozen<map<text, text>>; compression frozen<map<text, text>>; crc_check_chance double; " +
				"dclocal_read_repair_chance double; default_time_to_live int; extensions frozen<map<text, blob>>; flags " +
				"frozen<set<text>>; gc_grace_seconds int; id uuid; incremental_backups boolean; max_index_interval int; " +
				"memtable text; memtable_flush_period_in_ms int; min_index_interval int; read_repair text; read_repair_chance " +
				"double; speculative_retry text"},
		{name: "triggers", comment: "trigger definitions",
			columns: "keyspace_name text pk; table_name text ck; trigger_name text ck; options frozen<map<text, text>>"},
		{name: "types", comment: "user defined type definitions",
			columns: "keyspace_name text pk; type_name text ck; field_names frozen<list<text>>; field_types frozen<list<text>>"},
		{name: "views", comment: "view definitions",
			columns: "keyspace_name text pk; view_name text ck; additional_write_policy text; allow_auto_snapshot boolean; " +
				"base_table_id uuid; base_table_name text; bloom_filter_fp_chance double; caching frozen<map<text, text>>; cdc " +
				"boolean; comment text; compaction frozen<map<text, text>>; compression frozen<map<text, text>>; " +
				"crc_check_chance double; dclocal_read_repair_chance double; default_time_to_live int; extensions " +
				"frozen<map<text, blob>>; gc_grace_seconds int; id uuid; include_all_columns boolean; incremental_backups " +
				"boolean; max_index_interval int; memtable text; memtable_flush_period_in_ms int; min_index_interval int; " +
				"read_repair text; read_repair_chance double; speculative_retry text; where_clause text"},
	}
}

func authTables() []systemTable {
	return []systemTable{
		{name: "cidr_groups", comment: "cidr groups to cidrs mapping",
			columns: "cidr_group text pk; cidrs frozen<set<frozen<tuple<inet, smallint>>>>"},
		{name: "cidr_permissions", comment: "user cidr permissions",
			columns: "role text pk; cidr_groups frozen<set<text>>"},
		{name: "identity_to_role", comment: "mtls authorized identities lookup table",
			columns: "identity text pk; role text"},
		{name: "network_permissions", comment: "user network permissions",
			columns: "role text pk; dcs frozen<set<text>>"},
		{name: "resource_role_permissons_index", comment: "index of db roles with permissions granted on a resource",
			columns: "resource text pk; role text ck"},
		{name: "role_members", comment: "role memberships lookup table",
			columns: "role text pk; member text ck"},
		{name: "role_permissions", comment: "permissions granted to db roles",
			columns: "role text pk; resource text ck; permissions set<text>"},
		{name: "roles", comment: "role definitions",
			columns: "role text pk; can_login boolean; is_superuser boolean; member_of set<text>; salted_hash text"},
	}
}

func distributedTables() []systemTable {
	return []systemTable{
		{name: "parent_repair_history", comment: "Repair history",
			columns: "parent_id timeuuid pk; columnfamily_names set<text>; exception_message text; exception_stacktrace text; " +
				"finished_at timestamp; keyspace_name text; options map<text, text>; requested_ranges set<text>; started_at " +
				"timestamp; successful_ranges set<text>",
			options: historyOptions},
		{name: "partition_denylist", comment: "Partition keys which have been denied access",
			columns: "ks_name text pk; table_name text pk; key blob ck"},
		{name: "repair_history", comment: "Repair history",
			columns: "keyspace_name text pk; columnfamily_name text pk; id timeuuid ck; coordinator inet; coordinator_port int; " +
				"exception_message text; exception_stacktrace text; finished_at timestamp; parent_id timeuuid; participants " +
				"set<inet>; participants_v2 set<text>; range_begin text; range_end text; started_at timestamp; status text",
			options: historyOptions},
		{name: "view_build_status", comment: "Materialized View build status",
			columns: "keyspace_name text pk; view_name text pk; host_id uuid ck; status text"},
	}
}

func tracesTables() []systemTable {
	return []systemTable{
		{name: "events", comment: "tracing events",
			columns: "session_id uuid pk; event_id timeuuid ck; activity text; source inet; source_elapsed int; source_port int; " +
				"thread text"},
		{name: "sessions", comment: "tracing sessions",
			columns: "session_id uuid pk; client inet; command text; coordinator inet; coordinator_port int; duration int; " +
				"parameters map<text, text>; request text; started_at timestamp"},
	}
}

func viewsTables() []systemTable {
	return []systemTable{
		{name: "batch_metrics", comment: "Metrics specific to batch statements",
			columns: "name text pk; max bigint; p50th double; p999th double; p99th double"},
		{name: "caches", comment: "system caches",
			columns: "name text pk; capacity_bytes bigint; entry_count int; hit_count bigint; hit_ratio double; " +
				"recent_hit_rate_per_second bigint; recent_request_rate_per_second bigint; request_count bigint; size_bytes " +
				"bigint"},
		{name: "cidr_filtering_metrics_counts", comment: "Count metrics specific to CIDR filtering",
			columns: "name text pk; value bigint"},
		{name: "cidr_filtering_metrics_latencies", comment: "Latency metrics specific to CIDR filtering",
			columns: "name text pk; max double; p50th double; p95th double; p999th double; p99th double"},
		{name: "clients", comment: "currently connected clients",
			columns: "address inet pk; port int ck; client_options frozen<map<text, text>>; connection_stage text; driver_name text; " +
				"driver_version text; hostname text; keyspace_name text; protocol_version int; request_count bigint; " +
				"ssl_cipher_suite text; ssl_enabled boolean; ssl_protocol text; username text"},
		{name: "coordinator_read_latency", comment: "",
			columns: "keyspace_name text pk; table_name text pk; count bigint; max_ms double; p50th_ms double; p99th_ms double; " +
				"per_second double"},
		{name: "coordinator_scan_latency", comment: "",
			columns: "keyspace_name text pk; table_name text pk; count bigint; max_ms double; p50th_ms double; p99th_ms double; " +
				"per_second double"},
		{name: "coordinator_write_latency", comment: "",
			columns: "keyspace_name text pk; table_name text pk; count bigint; max_ms double; p50th_ms double; p99th_ms double; " +
				"per_second double"},
		{name: "cql_metrics", comment: "Metrics specific to CQL prepared statement caching",
			columns: "name text pk; value double"},
		{name: "credentials_cache_keys", comment: "keys in the credentials cache",
			columns: "role text pk"},
		{name: "disk_usage", comment: "",
			columns: "keyspace_name text pk; table_name text pk; mebibytes bigint"},
		{name: "gossip_info", comment: "lists the gossip information for the cluster",
			columns: "address inet pk; port int ck; dc text; dc_version int; disk_usage text; disk_usage_version int; generation " +
				"int; heartbeat int; host_id text; host_id_version int; hostname text; index_status text; index_status_version " +
				"int; internal_address_and_port text; internal_address_and_port_version int; internal_ip text; " +
				"internal_ip_version int; load text; load_version int; native_address_and_port text; " +
				"native_address_and_port_version int; net_version text; net_version_version int; rack text; rack_version int; " +
				"release_version text; release_version_version int; removal_coordinator text; removal_coordinator_version int; " +
				"rpc_address text; rpc_address_version int; rpc_ready text; rpc_ready_version int; schema text; schema_version " +
				"int; severity text; severity_version int; sstable_versions text; sstable_versions_version int; status text; " +
				"status_version int; status_with_port text; status_with_port_version int; tokens_version int; x1 text; x10 " +
				"text; x10_version int; x1_version int; x2 text; x2_version int; x3 text; x3_version int; x4 text; x4_version " +
				"int; x5 text; x5_version int; x6 text; x6_version int; x7 text; x7_version int; x8 text; x8_version int; x9 " +
				"text; x9_version int; x_11_padding text; x_11_padding_version int"},
		{name: "internode_inbound", comment: "",
			columns: "address inet pk; port int pk; dc text ck; rack text ck; corrupt_frames_recovered bigint; " +
				"corrupt_frames_unrecovered bigint; error_bytes bigint; error_count bigint; expired_bytes bigint; expired_count " +
				"bigint; processed_bytes bigint; processed_count bigint; received_bytes bigint; received_count bigint; " +
				"scheduled_bytes bigint; scheduled_count bigint; throttled_count bigint; throttled_nanos bigint; using_bytes " +
				"bigint; using_reserve_bytes bigint"},
		{name: "internode_outbound", comment: "",
			columns: "address inet pk; port int pk; dc text ck; rack text ck; active_connections bigint; connection_attempts bigint; " +
				"error_bytes bigint; error_count bigint; expired_bytes bigint; expired_count bigint; overload_bytes bigint; " +
				"overload_count bigint; pending_bytes bigint; pending_count bigint; sent_bytes bigint; sent_count bigint; " +
				"successful_connection_attempts bigint; using_bytes bigint; using_reserve_bytes bigint"},
		{name: "jmx_permissions_cache_keys", comment: "keys in the JMX permissions cache",
			columns: "role text pk"},
		{name: "local_read_latency", comment: "",
			columns: "keyspace_name text pk; table_name text pk; count bigint; max_ms double; p50th_ms double; p99th_ms double; " +
				"per_second double"},
		{name: "local_scan_latency", comment: "",
			columns: "keyspace_name text pk; table_name text pk; count bigint; max_ms double; p50th_ms double; p99th_ms double; " +
				"per_second double"},
		{name: "local_write_latency", comment: "",
			columns: "keyspace_name text pk; table_name text pk; count bigint; max_ms double; p50th_ms double; p99th_ms double; " +
				"per_second double"},
		{name: "max_partition_size", comment: "",
			columns: "keyspace_name text pk; table_name text pk; mebibytes bigint"},
		{name: "max_sstable_duration", comment: "",
			columns: "keyspace_name text pk; table_name text pk; max_sstable_duration bigint"},
		{name: "max_sstable_size", comment: "",
			columns: "keyspace_name text pk; table_name text pk; mebibytes bigint"},
		{name: "network_permissions_cache_keys", comment: "keys in the network permissions cache",
			columns: "role text pk"},
		{name: "pending_hints", comment: "Pending hints that this node has for other nodes",
			columns: "host_id uuid pk; address inet; dc text; files int; newest timestamp; oldest timestamp; port int; rack text; " +
				"status text"},
		{name: "permissions_cache_keys", comment: "keys in the permissions cache",
			columns: "role text pk; resource text pk"},
		{name: "queries", comment: "Lists currently running queries",
			columns: "thread_id text pk; queued_micros bigint; running_micros bigint; task text"},
		{name: "repair_jobs", comment: "Repair job",
			columns: "id uuid pk; completed boolean; duration_millis bigint; failure_cause text; keyspace_name text; last_updated_at " +
				"timestamp; participants frozen<list<text>>; ranges frozen<list<text>>; repair_id timeuuid; session_id " +
				"timeuuid; state_failure_timestamp timestamp; state_init_timestamp timestamp; state_skipped_timestamp " +
				"timestamp; state_snapshot_complete_timestamp timestamp; state_snapshot_start_timestamp timestamp; " +
				"state_start_timestamp timestamp; state_stream_start_timestamp timestamp; state_success_timestamp timestamp; " +
				"state_validation_complete_timestamp timestamp; state_validation_start_timestamp timestamp; status text; " +
				"success_message text; table_name text"},
		{name: "repair_participates", comment: "Repair participate summary",
			columns: "id timeuuid pk; completed boolean; duration_millis bigint; failure_cause text; global boolean; incremental " +
				"boolean; initiator text; last_updated_at timestamp; preview_kind text; ranges frozen<list<text>>; repaired_at " +
				"timestamp; state_failure_timestamp timestamp; state_init_timestamp timestamp; state_skipped_timestamp " +
				"timestamp; state_success_timestamp timestamp; success_message text; tables frozen<set<text>>; validations " +
				"frozen<set<uuid>>"},
		{name: "repair_sessions", comment: "Repair session",
			columns: "id timeuuid pk; completed boolean; duration_millis bigint; failure_cause text; jobs frozen<set<uuid>>; " +
				"keyspace_name text; last_updated_at timestamp; participants frozen<list<text>>; ranges frozen<list<text>>; " +
				"repair_id timeuuid; state_failure_timestamp timestamp; state_init_timestamp timestamp; " +
				"state_jobs_start_timestamp timestamp; state_skipped_timestamp timestamp; state_start_timestamp timestamp; " +
				"state_success_timestamp timestamp; status text; success_message text; table_names frozen<list<text>>"},
		{name: "repair_validations", comment: "Repair validation",
			columns: "id uuid pk; bytes_read bigint; completed boolean; duration_millis bigint; estimated_partitions bigint; " +
				"estimated_total_bytes bigint; failure_cause text; initiator text; keyspace_name text; last_updated_at " +
				"timestamp; partitions_processed bigint; progress_percentage float; ranges frozen<list<text>>; repair_id " +
				"timeuuid; session_id timeuuid; state_accept_timestamp timestamp; state_failure_timestamp timestamp; " +
				"state_init_timestamp timestamp; state_sending_trees_timestamp timestamp; state_skipped_timestamp timestamp; " +
				"state_start_timestamp timestamp; state_success_timestamp timestamp; status text; success_message text; " +
				"table_name text"},
		{name: "repairs", comment: "Repair summary",
			columns: "id timeuuid pk; command_id int; completed boolean; duration_millis bigint; failure_cause text; keyspace_name " +
				"text; last_updated_at timestamp; options_column_families frozen<set<text>>; options_data_centers " +
				"frozen<set<text>>; options_force_repair boolean; options_hosts frozen<set<text>>; " +
				"options_ignore_unreplicated_keyspaces boolean; options_incremental boolean; options_job_threads int; " +
				"options_optimise_streams boolean; options_parallelism text; options_preview_kind text; options_primary_range " +
				"boolean; options_pull_repair boolean; options_ranges frozen<set<text>>; options_subrange_repair boolean; " +
				"options_trace boolean; participants frozen<list<text>>; ranges frozen<list<frozen<list<text>>>>; sessions " +
				"frozen<set<timeuuid>>; state_failure_timestamp timestamp; state_init_timestamp timestamp; " +
				"state_prepare_complete_timestamp timestamp; state_prepare_start_timestamp timestamp; " +
				"state_repair_complete_timestamp timestamp; state_repair_start_timestamp timestamp; state_setup_timestamp " +
				"timestamp; state_skipped_timestamp timestamp; state_start_timestamp timestamp; state_success_timestamp " +
				"timestamp; status text; success_message text; table_names frozen<list<text>>; type text; unfiltered_ranges " +
				"frozen<list<frozen<list<text>>>>"},
		{name: "roles_cache_keys", comment: "keys in the roles cache",
			columns: "role text pk"},
		{name: "rows_per_read", comment: "",
			columns: "keyspace_name text pk; table_name text pk; count bigint; max double; p50th double; p99th double"},
		{name: "sai_column_indexes", comment: "Storage-attached column index metadata",
			columns: "keyspace_name text pk; index_name text ck; analyzer text; column_name text; is_building boolean; is_queryable " +
				"boolean; is_string boolean; table_name text"},
		{name: "sai_sstable_index_segments", comment: "SSTable index segment metadata",
			columns: "keyspace_name text pk; index_name text ck; sstable_name text ck; segment_row_id_offset bigint ck; cell_count " +
				"bigint; column_name text; component_metadata frozen<map<text, frozen<map<text, text>>>>; end_token text; " +
				"max_sstable_row_id bigint; max_term text; min_sstable_row_id bigint; min_term text; start_token text; " +
				"table_name text"},
		{name: "sai_sstable_indexes", comment: "SSTable index metadata",
			columns: "keyspace_name text pk; index_name text ck; sstable_name text ck; cell_count bigint; column_name text; " +
				"end_token text; format_version text; max_row_id bigint; min_row_id bigint; per_column_disk_size bigint; " +
				"per_table_disk_size bigint; start_token text; table_name text"},
		{name: "settings", comment: "current settings",
			columns: "name text pk; value text"},
		{name: "snapshots", comment: "available snapshots",
			columns: "name text pk; keyspace_name text ck; table_name text ck; created_at timestamp; ephemeral boolean; expires_at " +
				"timestamp; size_on_disk bigint; true_size bigint"},
		{name: "sstable_tasks", comment: "current sstable tasks",
			columns: "keyspace_name text pk; table_name text ck; task_id timeuuid ck; completion_ratio double; kind text; progress " +
				"bigint; sstables int; target_directory text; total bigint; unit text"},
		{name: "streaming", comment: "",
			columns: "id timeuuid pk; bytes_received bigint; bytes_sent bigint; bytes_to_receive bigint; bytes_to_send bigint; " +
				"duration_millis bigint; failure_cause text; files_received bigint; files_sent bigint; files_to_receive bigint; " +
				"files_to_send bigint; follower boolean; last_updated_at timestamp; operation text; peers frozen<list<text>>; " +
				"progress_percentage float; status text; status_failure_timestamp timestamp; status_init_timestamp timestamp; " +
				"status_start_timestamp timestamp; status_success_timestamp timestamp; success_message text"},
		{name: "system_logs", comment: "Cassandra logs",
			columns: "timestamp timestamp pk; order_in_millisecond int ck; level text; logger text; message text"},
		{name: "system_properties", comment: "Cassandra relevant system properties",
			columns: "name text pk; value text"},
		{name: "thread_pools", comment: "",
			columns: "name text pk; active_tasks int; active_tasks_limit int; blocked_tasks bigint; blocked_tasks_all_time bigint; " +
				"completed_tasks bigint; pending_tasks int"},
		{name: "tombstones_per_read", comment: "",
			columns: "keyspace_name text pk; table_name text pk; count bigint; max double; p50th double; p99th double"},
	}
}

func virtualSchemaTables() []systemTable {
	return []systemTable{
		{name: "columns", comment: "virtual column definitions",
			columns: "keyspace_name text pk; table_name text ck; column_name text ck; clustering_order text; column_name_bytes blob; " +
				"kind text; position int; type text"},
		{name: "keyspaces", comment: "virtual keyspace definitions",
			columns: "keyspace_name text pk"},
		{name: "tables", comment: "virtual table definitions",
			columns: "keyspace_name text pk; table_name text ck; comment text"},
	}
}

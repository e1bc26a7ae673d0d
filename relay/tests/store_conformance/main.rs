//! One suite for both databases: every rule that `relay::store` promises has a test named after
//! it, run on a SQLite file and on a real Postgres.

#![allow(clippy::unwrap_used, reason = "a test that unwraps has failed, which is what it is for")]

mod append;
mod archive;
mod batch;
mod concurrency;
mod durability;
mod mailbox;
mod membership;
mod reading;
mod retention;
mod schema;
mod subject;

/// Makes each rule a test of `sqlite` and a test of `postgres`.
macro_rules! conformance {
    ($($module:ident { $($rule:ident),* $(,)? })*) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    crate::$module::$rule(crate::subject::Subject::sqlite().await).await;
                }
            )*)*
        }

        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    crate::$module::$rule(crate::subject::Subject::postgres().await).await;
                }
            )*)*
        }
    };
}

conformance! {
    append {
        a_new_log_starts_with_its_epoch_envelope_at_cursor_1,
        envelopes_are_numbered_in_order_without_gaps,
        the_same_envelope_gets_the_same_cursor,
        a_duplicate_within_one_batch_gets_the_same_cursor,
        two_logs_number_their_entries_apart,
        a_rotten_row_is_replaced_in_place,
        an_emptied_row_is_replaced_in_place,
        a_lost_row_is_appended_anew,
        the_quota_cuts_an_append_to_a_prefix,
        the_quota_does_not_refuse_what_is_stored_already,
        an_append_under_an_old_generation_stores_nothing,
        an_append_by_a_revoked_device_stores_nothing,
        an_append_to_a_deleted_log_says_that_it_is_gone,
    }
    batch {
        requests_of_one_log_are_numbered_one_behind_the_other,
        a_duplicate_across_requests_gets_the_same_cursor,
        a_request_that_cannot_be_served_fails_alone,
        the_quota_of_one_request_does_not_stop_those_behind_it,
        a_batch_committed_again_stores_nothing_twice,
        a_rotten_row_is_replaced_once_however_many_requests_bring_it,
        notes_and_appends_are_committed_together,
        an_empty_batch_has_no_answers,
    }
    reading {
        a_page_is_consecutive_and_ends_at_its_limits,
        a_page_has_at_least_one_entry_however_large,
        a_rotten_entry_is_reported_not_skipped,
        a_lost_entry_is_reported_not_skipped,
        lost_entries_at_the_head_are_reported_not_skipped,
        nothing_is_read_below_the_floor,
        blob_ids_answer_for_cursors_of_the_log_only,
        the_blob_id_below_the_floor_is_kept,
        the_blob_id_at_a_lost_head_is_kept,
        a_rotten_or_lost_blob_counts_as_missing,
        a_timeline_is_swapped_once,
    }
    membership {
        a_name_is_known_once_the_log_exists,
        of_two_creations_one_wins,
        a_member_is_put_on_the_allow_list,
        a_full_allow_list_admits_only_who_is_on_it,
        a_rotation_moves_the_name_and_starts_a_generation,
        of_two_concurrent_rotations_exactly_one_wins,
        a_repeated_rotation_is_done_not_in_conflict,
        a_pushed_epoch_envelope_is_not_taken_for_a_rotation,
        a_quota_does_not_stop_a_rotation,
        a_rotation_over_what_it_may_take_itself_changes_nothing,
        a_restriction_removes_and_admits_nobody_until_the_rotation,
        a_removed_device_neither_restricts_nor_rotates,
        a_session_of_an_old_generation_restricts_nothing,
        a_device_finds_its_logs_and_their_current_epoch,
        a_device_finds_at_most_four_logs,
        a_slot_is_kept_until_its_device_is_removed,
        an_ack_stores_the_receipt_and_never_goes_back,
    }
    retention {
        a_floor_moves_at_once_and_nothing_below_it_is_read,
        a_floor_is_raised_no_further_than_every_device_seen_lately_has_acknowledged,
        a_device_not_seen_for_thirty_days_keeps_no_floor_down,
        a_device_that_never_reads_keeps_no_floor_down,
        a_floor_is_raised_once_in_an_interval,
        a_floor_is_lowered_down_to_what_still_has_its_bytes,
        bytes_below_a_floor_go_after_their_grace_and_not_before,
        a_floor_raised_while_another_waits_has_a_grace_of_its_own,
        a_lowered_floor_keeps_what_is_above_it,
        the_blob_id_below_a_floor_is_exact_before_and_after_the_bytes_went,
        a_floor_never_stands_on_a_lost_row,
        the_whole_log_can_be_truncated_and_goes_on,
        what_lies_below_the_floor_counts_until_it_is_removed,
        a_purged_blob_is_appended_anew,
        a_session_of_an_old_generation_neither_truncates_nor_deletes,
        a_removed_device_neither_truncates_nor_deletes,
        a_purge_takes_small_steps,
        a_deleted_log_is_not_served,
        a_members_hello_brings_a_deleted_log_back,
        a_hello_with_an_old_key_does_not_bring_it_back,
        a_deleted_log_is_removed_after_its_grace_with_all_its_names,
        a_log_that_a_member_brought_back_is_not_removed,
        a_log_of_many_names_is_removed_in_small_steps,
        a_removal_that_has_begun_is_not_undone,
        an_idle_log_is_evicted_and_one_in_use_is_not,
        a_log_noted_as_in_use_is_not_idle,
        a_collector_is_alone,
        a_round_sweeps_mailboxes,
        the_census_counts_what_is_there,
        a_declared_restore_gives_every_log_another_timeline,
        truncation_collection_reads_and_pushes_lose_nothing_together,
    }
    mailbox {
        a_mailbox_takes_one_joiner,
        a_mailbox_is_opened_under_the_first_free_id,
        an_expired_id_is_free_again_with_nothing_left_in_it,
        who_waited_at_an_id_that_is_another_mailboxs_now_is_at_none,
        mailboxes_are_limited_in_total_and_for_each_log,
        messages_reach_the_other_side_in_order_once_skipped_never_again,
        a_mailbox_takes_sixteen_messages,
        concurrent_messages_are_all_kept,
        a_closed_mailbox_still_gives_its_last_messages,
        closing_lets_no_mailbox_last_longer,
        an_expired_mailbox_is_over,
        a_sweep_forgets_only_what_expired,
    }
    concurrency {
        a_polling_reader_never_sees_a_cursor_appear_behind_one_it_has_read,
        no_append_follows_a_restriction_that_removed_its_device,
    }
    archive {
        an_archive_restores_every_row_into_either_database,
        a_restore_gives_every_log_another_timeline_and_changes_nothing_else,
        an_archive_is_of_one_moment_while_others_push,
        a_log_whose_removal_has_begun_is_not_in_the_archive,
        a_restore_over_logs_is_refused_unless_they_are_to_go,
        a_damaged_archive_changes_nothing,
        a_backup_overwrites_nothing_and_leaves_nothing_half_done,
        an_archive_is_for_its_owner_only,
    }
    durability {
        a_reopened_store_has_everything,
        a_store_of_another_schema_version_is_refused,
        a_fresh_store_is_ready,
    }
    schema {
        every_key_starts_with_the_group,
        every_table_keeps_its_name_and_columns,
    }
}

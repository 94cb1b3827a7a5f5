create function note_audit_entry() returns trigger language plpgsql as $$
begin
    insert into audit_pending (tenant_id, entry_id) values (new.tenant_id, new.id);
    return null;
end
$$;
create trigger audit_entry_is_noted after insert on audit_entries for each row execute function note_audit_entry();

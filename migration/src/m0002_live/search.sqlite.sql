-- The words of a message or a title, as the server cut them, spaces between them; the rows that they are of stand beside.
create virtual table search_terms using fts5(terms, content='', contentless_delete=1, tokenize="unicode61 remove_diacritics 0 categories 'L* M* N* Co'");
create table search_texts (
    rowid integer primary key,
    id blob not null unique,
    tenant_id blob not null,
    conversation_id blob not null
);
create index search_texts_conversation on search_texts (conversation_id);

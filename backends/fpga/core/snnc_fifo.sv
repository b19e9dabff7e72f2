// Queue with its oldest entry at the output. `room` says that two more entries fit: one that is on its way
// and one that starts now.
`default_nettype none

module snnc_fifo #(
    parameter WIDTH = 32,
    parameter LOG = 2
) (
    input  wire             clk,
    input  wire             rst,
    input  wire             push,
    input  wire [WIDTH-1:0] din,
    input  wire             pop,
    output wire [WIDTH-1:0] dout,
    output wire             valid,
    output wire             room
);
    reg [WIDTH-1:0] mem [0:(1 << LOG)-1];
    reg [LOG:0] head, tail;
    wire [LOG:0] count = head - tail;

    assign valid = count != 0;
    assign room = count < (LOG + 1)'((1 << LOG) - 1);
    assign dout = mem[tail[LOG-1:0]];

    always @(posedge clk) begin
        if (push) mem[head[LOG-1:0]] <= din;
        if (rst) begin
            head <= 0;
            tail <= 0;
        end else begin
            if (push) head <= head + 1'b1;
            if (pop) tail <= tail + 1'b1;
        end
    end

`ifdef FORMAL
    // Proved by induction: used as `room` and `valid` allow, it neither overflows nor gives what was not put in.
    reg begun = 0;
    reg flight = 0; // an entry that was started when there was room, and arrives now
    reg [LOG:0] watched;
    reg watching = 0;
    reg [WIDTH-1:0] kept;
    (* anyconst *) wire [WIDTH-1:0] secret;
    always @(posedge clk) begin
        begun <= 1;
        if (!begun) assume (rst);
        flight <= !rst && room && started;
        assume (push == (flight && !rst) || !push);
        assume (!pop || valid);
        if (rst) watching <= 0;
        else if (push && din == secret && !watching) begin
            watching <= 1;
            watched <= head;
        end else if (watching && pop && tail == watched) watching <= 0;
        if (begun && !rst) begin
            assert (count <= (1 << LOG));
            assert (!(push && count == (1 << LOG)));
            if (flight) assert (count < (1 << LOG));
            if (watching) begin
                assert ((LOG + 1)'(head - watched) <= count && head != watched);
                assert (mem[watched[LOG-1:0]] == secret);
                if (tail == watched) assert (dout == secret);
            end
        end
    end
    (* anyseq *) wire started;
`endif
endmodule

`default_nettype wire

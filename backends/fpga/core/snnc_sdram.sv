// Controller of an SDRAM of 16 bits (JEDEC, single data rate, rows of 512 words, four banks, latency 2), for clocks up
// to 100 MHz. After reset the first FILL values of the stream are written to it. Reads are runs of any length: one
// word a cycle, and a row after the other.
//
// The memory takes commands at the falling edge of this clock, so that they and its data are stable at the edges.
`default_nettype none

module snnc_sdram #(
    parameter FILL = 1024,
    parameter POWER = 8000,          // cycles of 200 us, until it takes commands
    parameter REFRESH = 195          // cycles of 7.8 us, within which it wants one
) (
    input  wire        clk,
    input  wire        rst,
    // contents
    input  wire [15:0] s_tdata,
    input  wire        s_tvalid,
    output wire        s_tready,
    output wire        filled,
    // runs
    input  wire        start,
    input  wire [23:0] addr,
    input  wire [23:0] beats,
    output reg         beat,
    output reg  [15:0] data,
    // chip
    output reg  [3:0]  command,      // cs, ras, cas and we, each low where it is set
    output reg  [1:0]  bank,
    output reg  [12:0] address,
    output reg         drive,
    output reg  [15:0] to_chip,
    input  wire [15:0] from_chip
);
    localparam [3:0] MODE = 4'b0000, AUTO = 4'b0001, PRECHARGE = 4'b0010, ACTIVATE = 4'b0011, WRITE = 4'b0100,
                     READ = 4'b0101, NOTHING = 4'b0111;
    localparam [12:0] ALL = 13'h400;         // of the banks; or precharge behind a write
    localparam [12:0] SETTINGS = 13'h220;    // single words, latency 2
    // Cycles between two commands, less one, of at least 10 ns
    localparam RP = 1, RCD = 1, RFC = 6, MRD = 1, LAST_READ = 2, WRITTEN = 5;

    localparam [2:0] STARTING = 0, SETUP = 1, IDLE = 2, READING = 3, CLOSING = 4, WRITING = 5;
    reg [2:0] state;
    reg [3:0] step;
    reg [15:0] timer;
    reg [23:0] at, left;
    reg [24:0] written;
    reg [15:0] until_due;
    reg [3:0] due;                           // refreshes that were put off
    reg coming, arriving;
    reg powered = 0;                         // once; a reset does not take it away
    wire [23:0] place = filled ? at : written[23:0];
    wire asleep = rst || state == STARTING || state == SETUP;
    wire refreshing = state == IDLE && timer == 0 && due != 0 && !start;
    wire ready = state == WRITING && timer == 0;

    initial command = NOTHING;
    assign filled = written == 25'(FILL);
    assign s_tready = ready;

    always @(posedge clk) begin
        command <= NOTHING;
        drive <= 0;
        coming <= 0;
        if (rst) begin
            state <= STARTING;
            timer <= powered ? RFC : 16'(POWER);
            written <= 0;
            left <= 0;
        end else if (start) begin
            at <= addr;
            left <= beats;
        end else if (timer != 0) timer <= timer - 1'b1;
        else case (state)
            STARTING: begin
                command <= PRECHARGE;
                address <= ALL;
                timer <= RP;
                step <= 0;
                powered <= 1;
                state <= SETUP;
            end
            SETUP: begin
                step <= step + 1'b1;
                command <= step == 8 ? MODE : AUTO;
                bank <= 0;
                address <= SETTINGS;
                timer <= step == 8 ? MRD : RFC;
                if (step == 8) state <= IDLE;
            end
            IDLE: if (due != 0) begin
                command <= AUTO;
                timer <= RFC;
            end else if (left != 0 || (!filled && s_tvalid)) begin
                command <= ACTIVATE;
                {address, bank} <= place[23:9];
                timer <= RCD;
                state <= filled ? READING : WRITING;
            end
            READING: begin
                command <= READ;
                address <= 13'(at[8:0]);
                coming <= 1;
                at <= at + 1'b1;
                left <= left - 1'b1;
                if (at[8:0] == 9'h1ff || left == 1) begin
                    timer <= LAST_READ;
                    state <= CLOSING;
                end
            end
            CLOSING: begin
                command <= PRECHARGE;
                address <= ALL;
                timer <= RP;
                state <= IDLE;
            end
            default: begin // WRITING: what was offered is still there
                command <= WRITE;
                address <= ALL | 13'(place[8:0]);
                drive <= 1;
                to_chip <= s_tdata;
                written <= written + 1'b1;
                timer <= WRITTEN;
                state <= IDLE;
            end
        endcase

        arriving <= coming && !rst;
        beat <= arriving && !rst;
        data <= from_chip;

        until_due <= asleep || until_due == 0 ? 16'(REFRESH - 1) : until_due - 1'b1;
        due <= asleep ? 4'd0 : due + 4'(until_due == 0) - 4'(refreshing);
    end
endmodule

`default_nettype wire
